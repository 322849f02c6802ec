// Facts of the machine for the host's report: what it runs on and what it has left.
import { cpu, mem, osInfo, system } from 'systeminformation'
import type { MachineFacts } from '../registry/registry.ts'

/** Reads once; takes some tens of milliseconds and starts a few short programs. */
export async function readMachine(): Promise<MachineFacts> {
  const [os, processor, memory, machine] = await Promise.all([osInfo(), cpu(), mem(), system()])
  return {
    os: `${os.distro} ${os.release}`.trim(),
    kernel: os.kernel,
    arch: os.arch,
    cores: processor.cores,
    memoryBytes: memory.total,
    virtual: machine.virtual === true ? (machine.virtualHost ?? 'yes') : 'no',
  }
}
