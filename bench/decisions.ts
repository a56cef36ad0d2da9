// Decides on requests of so many known keys, or with wrong ones. Prints the processor time that one decision takes, in
// microseconds, and the memory in MiB, as JSON.
import { setImmediate as breath } from 'node:timers/promises';
import { POLICY_DEFAULTS } from '../gateway/routes/route-spec.ts';
import { mintKey } from '../shared/keys.ts';
import { decider } from './decider.ts';

const [, , kind = 'known', known = '10000', decisions = '2000000'] = process.argv;
const count = Number(known);
const { keys, decide } = decider(count, 2_000_000);
const policy = POLICY_DEFAULTS;

async function once(text: string, address: string): Promise<boolean> {
  return (await decide({ credential: { kind: 'key', text }, address, policy, now: Date.now() }, 'spend'))
    .allowed;
}
for (let i = 0; i < count; i += 1000)
  await Promise.all(keys.slice(i, i + 1000).map((key) => once(key, '127.0.0.1')));

/** Wrong keys in ever new spellings. */
function wrongKey(i: number): string {
  if (kind === 'checksum') return `${(keys[i % count] as string).slice(0, -7)}${String(i).padStart(7, '0')}`;
  if (kind === 'form') return `wrong-${i}`;
  return mintKey('tg', 'test').plaintext;
}
const wanted = Number(decisions);
const asked =
  kind === 'known' ? keys : Array.from({ length: Math.min(wanted, 200_000) }, (_, i) => wrongKey(i));
let admitted = 0;
async function run(times: number): Promise<void> {
  // A step that visits every key, far from the one before: no cache of the processor helps.
  for (let i = 0, at = 0; i < times; i++, at = (at + 7919) % asked.length) {
    const text = asked[at] as string;
    const address = kind === 'known' ? '127.0.0.1' : `198.51.${at & 255}.${(at >> 8) & 255}`;
    const decision = decide({ credential: { kind: 'key', text }, address, policy, now: Date.now() }, 'spend');
    if (decision instanceof Promise ? (await decision).allowed : decision.allowed) admitted++;
    if (i % 100 === 99) await breath();
  }
}
await run(Math.trunc(wanted / 4));
admitted = 0;
const before = process.cpuUsage();
await run(wanted);
const { user, system } = process.cpuUsage(before);
if (admitted !== (kind === 'known' ? wanted : 0)) throw new Error(`${admitted} of ${wanted} were admitted`);
process.stdout.write(
  JSON.stringify({
    microseconds: (user + system) / wanted,
    mib: Math.round(process.memoryUsage.rss() / 2 ** 20),
  }),
);
process.exit(0);
