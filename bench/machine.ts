import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, totalmem, type } from 'node:os';

/** What a benchmark ran on. */
export type Machine = {
  processor: string;
  cores: number;
  memoryGib: number;
  system: string;
  node: string;
};

export function thisMachine(): Machine {
  return {
    processor: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGib: Math.round(totalmem() / 2 ** 30),
    system: `${distribution()}${type()} ${release()}`,
    node: process.version,
  };
}

function distribution(): string {
  if (!existsSync('/etc/os-release')) return '';
  const name = /^PRETTY_NAME="?([^"\n]+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  return name ? `${name}, ` : '';
}
