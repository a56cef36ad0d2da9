import { spawnSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import type { TestContext } from 'vitest';

/** A machine of its own as far as the network is concerned, joined to this one by two cables. */
export type Namespace = {
  /** What runs a command in it. */
  within: string[];
  /** The addresses of this machine and of the other on the cable for everything. */
  here: string;
  there: string;
  /** The address of this machine on the second cable, which can be cut. */
  hereOnSecond: string;
  cut(): void;
  mend(): void;
  close(): Promise<void>;
};

const isPossible = (() => {
  const name = `tg-probe-${process.pid}`;
  if (spawnSync('ip', ['netns', 'add', name]).status !== 0) return false;
  spawnSync('ip', ['netns', 'del', name]);
  return true;
})();

/** For `beforeEach`: skips a test that needs network namespaces where they cannot be made. */
export function needsNamespaces({ skip }: Pick<TestContext, 'skip'>): void {
  if (!isPossible) skip('network namespaces cannot be made here (that takes root, and the package iproute2)');
}

export function makeNamespace(): Namespace {
  const name = `tg${process.pid}`;
  const net = randomInt(16, 250);
  const address = (cable: number, side: number) => `10.${net}.${cable}.${side}`;
  const ip = (...args: string[]) => {
    const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
    if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
  };
  const cableName = (cable: number) => `tg${process.pid}x${cable}`.slice(-15);
  ip('netns', 'add', name);
  ip('-n', name, 'link', 'set', 'lo', 'up');
  for (const cable of [1, 2]) {
    ip('link', 'add', cableName(cable), 'type', 'veth', 'peer', 'name', `c${cable}`, 'netns', name);
    ip('addr', 'add', `${address(cable, 1)}/24`, 'dev', cableName(cable));
    ip('link', 'set', cableName(cable), 'up');
    ip('-n', name, 'addr', 'add', `${address(cable, 2)}/24`, 'dev', `c${cable}`);
    ip('-n', name, 'link', 'set', `c${cable}`, 'up');
  }
  return {
    within: ['ip', 'netns', 'exec', name],
    here: address(1, 1),
    there: address(1, 2),
    hereOnSecond: address(2, 1),
    cut: () => ip('link', 'set', cableName(2), 'down'),
    mend: () => ip('link', 'set', cableName(2), 'up'),
    async close() {
      for (const cable of [1, 2]) spawnSync('ip', ['link', 'del', cableName(cable)]);
      spawnSync('ip', ['netns', 'del', name]);
    },
  };
}
