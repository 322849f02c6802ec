#!/bin/sh
# Puts a host back to how it was before meshctl joined it, from whatever half-done state. Needs nothing but what the
# host has; removes only what carries our names; may be run again and again.
#
#   undo.sh all        everything (leave; a first join that failed)
#   undo.sh previous   back to the installation before an update, which journal/previous holds
#   undo.sh check      run by the dead-man timer: does one of the above when the operator is gone

journal=/var/lib/meshctl/journal
opt=/opt/meshctl
systemd=/etc/systemd/system
dropin=50-meshctl.conf
resolved=/etc/systemd/resolved.conf.d/50-meshctl.conf
marker='# added by meshctl; everything but *.mesh goes on to the servers below'
nameserver='nameserver 127.0.0.153'
PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL
failed=0

complain() {
  echo "meshctl undo: $*" >&2
  failed=1
}

# journal/pending: boot id, uptime in seconds until which the operator is believed to live, what to undo.
check() {
  [ -e "$journal/pending" ] || return 0
  read -r boot deadline what < "$journal/pending"
  read -r now rest < /proc/uptime
  [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && [ "${now%%.*}" -lt "$deadline" ] && return 0
  echo "meshctl undo: nobody finished the join; undoing ($what)"
  "$what"
}

# Connections first: from here on nothing is redirected any more, whatever else goes wrong.
capture() {
  for program in iptables ip6tables; do
    command -v "$program-save" >/dev/null || continue
    for table in nat filter; do
      rules=$("$program-save" -t "$table" 2>/dev/null) || continue
      case $rules in *MESHCTL_*) ;; *) continue ;; esac
      {
        echo "*$table"
        printf '%s\n' "$rules" | sed -n 's/^:\(MESHCTL_[A-Z0-9_]*\) .*/:\1 - [0:0]/p'
        printf '%s\n' "$rules" | sed -n '/^-A MESHCTL_/d; s/^-A \(.* -[jg] MESHCTL_.*\)$/-D \1/p'
        printf '%s\n' "$rules" | sed -n 's/^:\(MESHCTL_[A-Z0-9_]*\) .*/-X \1/p'
        echo COMMIT
      } | "$program-restore" -w 5 --noflush || complain "$program: the rules of table $table stay"
    done
  done
  if command -v ipset >/dev/null; then
    for set in $(ipset list -n 2>/dev/null | grep '^meshctl_'); do
      # The kernel lets go of a removed rule's set a moment later.
      for try in 1 2 3 4 5 6 7 8 9; do
        ipset destroy "$set" 2>/dev/null && break
        sleep 0.2 2>/dev/null || sleep 1
      done
      ipset list -n "$set" >/dev/null 2>&1 && complain "ipset $set stays"
    done
  fi
  ip route del 240.240.0.0/16 dev lo 2>/dev/null
  rm -rf /run/meshctl/capture
}

# Whole or not at all; where the file is a mount of its own, which cannot be replaced, byte by byte.
place() {
  target=$(readlink -f /etc/resolv.conf)
  if cp -a "$1" "$target.meshctl" && sync "$target.meshctl" && mv -f "$target.meshctl" "$target" 2>/dev/null; then return 0; fi
  rm -f "$target.meshctl"
  cat "$1" > "$target" || complain '/etc/resolv.conf could not be put back'
  touch -r "$1" "$target"
}

resolver() {
  if [ -e "$resolved" ]; then
    rm -f "$resolved"
    again=yes
  fi
  if [ -e "$journal/resolver/made" ]; then rmdir "${resolved%/*}" 2>/dev/null; fi
  if [ "${again:-}" = yes ]; then systemctl reload-or-restart systemd-resolved || complain 'systemd-resolved did not reload'; fi
  rm -f /etc/resolv.conf.meshctl
  # The very bytes, unless others have written to the file since: then only our lines go. An empty file is what a plug
  # pulled in the middle of writing leaves.
  if [ -e "$journal/resolver/resolv.conf.ours" ] && cmp -s /etc/resolv.conf "$journal/resolver/resolv.conf.ours"; then
    place "$journal/resolver/resolv.conf"
  elif [ ! -L /etc/resolv.conf ] && grep -qxF "$nameserver" /etc/resolv.conf 2>/dev/null; then
    mkdir -p "$journal/resolver"
    cp -a /etc/resolv.conf "$journal/resolver/stripped"
    grep -vxF -e "$marker" -e "$nameserver" /etc/resolv.conf > "$journal/resolver/stripped"
    place "$journal/resolver/stripped"
  elif [ -s "$journal/resolver/resolv.conf" ] && [ -e /etc/resolv.conf ] && [ ! -s /etc/resolv.conf ]; then
    place "$journal/resolver/resolv.conf"
  fi
  rm -rf "$journal/resolver"
}

# Workers outlive a supervisor that was killed for some seconds, and systemd leaves them alone; their user cannot go then.
orphans() {
  for try in 1 2 3 4 5 6 7 8 9; do
    left=$(grep -l ':/system.slice/meshctl-proxy.service$' /proc/[0-9]*/cgroup 2>/dev/null | sed 's|[^0-9]||g')
    [ -n "$left" ] || return
    kill -KILL $left 2>/dev/null
    sleep 0.1 2>/dev/null || sleep 1
  done
}

# The resolver as soon as nobody answers for the agent any more: until then every lookup of the host fails.
stop() {
  systemctl disable --quiet meshctl-renew.timer meshctl-verify.timer meshctl-report.timer meshctl-agent.socket \
    meshctl-agent.service meshctl-proxy.socket meshctl-proxy.service 2>/dev/null
  systemctl stop meshctl-renew.timer meshctl-verify.timer meshctl-report.timer meshctl-agent.socket \
    meshctl-agent.service 2>/dev/null
  resolver
  capture
  systemctl stop meshctl-proxy.socket meshctl-proxy.service 2>/dev/null
  orphans
  systemctl stop meshctl-renew.service meshctl-verify.service meshctl-report.service 2>/dev/null
}

dropins() {
  for file in "$systemd"/*.d/"$dropin"; do
    [ -e "$file" ] && rm -f "$file"
  done
  if [ -e "$journal/folders" ]; then
    while read -r folder; do rmdir "$folder" 2>/dev/null; done < "$journal/folders"
  fi
}

all() {
  stop
  dropins
  for unit in agent.socket agent.service proxy.service proxy.socket renew.service renew.timer verify.service verify.timer \
    report.service report.timer; do
    rm -f "$systemd/meshctl-$unit" "$systemd"/*.wants/"meshctl-$unit"
  done
  # Control may live on the same machine; what it needs stays.
  if [ ! -e "$systemd/meshctl-control.service" ]; then
    rm -f /usr/local/bin/meshctl
    rm -rf "$opt"
  fi
  rm -rf /etc/meshctl /run/meshctl /var/log/meshctl
  rm -f /var/lib/systemd/timers/stamp-meshctl-renew.timer /var/lib/systemd/timers/stamp-meshctl-verify.timer \
    /var/lib/systemd/timers/stamp-meshctl-report.timer
  if [ -e "$journal/user" ] && getent passwd meshctl-proxy >/dev/null; then
    userdel meshctl-proxy || complain 'the user meshctl-proxy stays'
    getent group meshctl-proxy >/dev/null && groupdel meshctl-proxy
  fi
  systemctl daemon-reload
  systemctl reset-failed 'meshctl-agent*' 'meshctl-proxy*' 'meshctl-re*' 'meshctl-verify*' 2>/dev/null
  # The dead-man timer last: were this to break off or fail, it runs again.
  [ $failed = 0 ] || return 1
  deadman
  rm -rf /var/lib/meshctl
  rm -f /run/meshctl-join /run/meshctl-join.lock
}

# Back to the installation that an update found: its config, units, drop-ins, keys and release.
previous() {
  saved=$journal/previous
  if [ ! -e "$saved/saved.tar" ]; then
    complain 'there is no earlier installation to go back to'
    return 1
  fi
  # The earlier one may have had no socket of the agent; one that failed would be listed for ever.
  systemctl stop meshctl-agent.socket meshctl-agent.service 2>/dev/null
  systemctl reset-failed meshctl-agent.socket 2>/dev/null
  rm -f "$systemd"/meshctl-agent.* "$systemd"/multi-user.target.wants/meshctl-agent.socket \
    "$systemd"/meshctl-proxy.* "$systemd"/meshctl-re* "$systemd"/meshctl-verify.*
  dropins
  tar -C / -xpf "$saved/saved.tar" || complain 'the earlier installation could not be unpacked'
  ln -sfn "$(cat "$saved/release")" "$opt/current.new" && mv -fT "$opt/current.new" "$opt/current"
  systemctl daemon-reload
  if [ -e "$systemd/meshctl-agent.socket" ]; then systemctl enable --quiet --now meshctl-agent.socket; fi
  systemctl restart meshctl-proxy.socket meshctl-proxy.service meshctl-agent.service || complain 'the earlier installation did not start'
  while read -r timer; do
    if [ -e "$systemd/$timer" ]; then systemctl enable --quiet --now "$timer"; fi
  done < "$saved/timers"
  [ $failed = 0 ] || return 1
  deadman
  rm -rf "$saved"
  rm -f "$journal/pending" /run/meshctl-join /run/meshctl-join.lock
}

deadman() {
  rm -f "$systemd/meshctl-undo.service" "$systemd/meshctl-undo.timer" "$systemd/timers.target.wants/meshctl-undo.timer"
  systemctl stop meshctl-undo.timer 2>/dev/null
  systemctl daemon-reload
  systemctl reset-failed meshctl-undo.service meshctl-undo.timer 2>/dev/null
}

main() {
  case ${1:-} in all | previous | check) ;; *)
    echo "usage: undo.sh all|previous|check" >&2
    exit 64
    ;;
  esac
  [ "$(id -u)" = 0 ] || { echo 'meshctl undo: must be root' >&2; exit 77; }
  # One at a time: the timer and the operator may both want it.
  exec 9> /run/meshctl-undo.lock
  flock -w 240 9 || exit 75
  "$1" 9>&-
  status=$?
  rm -f /run/meshctl-undo.lock
  [ $failed = 0 ] && [ $status = 0 ]
  exit
}

# Read to the end before anything starts: this very file is removed on the way.
main "$@"; exit
