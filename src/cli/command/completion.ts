// `meshctl completion bash|zsh|fish`: a small script that asks `meshctl __complete` for every candidate, so that names of
// services, hosts and objects are live.
import { Argument, type Command } from 'commander'
import { examples, subcommand, type Cli } from '../cli.ts'

const bash = `# meshctl completion for bash
_meshctl() {
  local IFS=$'\\n'
  local cur="\${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=($(meshctl __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  # Words such as v1=90 are split at = by bash.
  if [[ "$cur" == "=" ]]; then COMPREPLY=(); fi
}
complete -o default -F _meshctl meshctl
`

const zsh = `#compdef meshctl
# meshctl completion for zsh
_meshctl() {
  local -a candidates
  candidates=("\${(@f)$(meshctl __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -- $candidates
}
compdef _meshctl meshctl
`

const fish = `# meshctl completion for fish
function __meshctl_complete
  set -l words (commandline -opc) (commandline -ct)
  meshctl __complete -- $words[2..-1] 2>/dev/null
end
complete -c meshctl -f -a '(__meshctl_complete)'
`

const scripts: Readonly<Record<string, string>> = { bash, zsh, fish }

export function register(program: Command, cli: Cli): void {
  const command = subcommand(program, 'completion').summary('for bash, zsh, fish')
  command.description('Prints a completion script. Names of services, hosts and objects are completed live.')
  command.addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(scripts)))
  examples(command, [
    'source <(meshctl completion bash)',
    'meshctl completion bash > /etc/bash_completion.d/meshctl',
    'meshctl completion zsh > "${fpath[1]}/_meshctl"',
    'meshctl completion fish > ~/.config/fish/completions/meshctl.fish',
  ])
  command.action((shell: string) => cli.terminal.out(scripts[shell] ?? ''))
}
