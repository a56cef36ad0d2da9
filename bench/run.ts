// npm run bench [-- <names> --quick]: measures, prints tables, and writes bench/results and docs/performance.md.
import { parseArgs } from 'node:util';
import { benchAccuracy } from './accuracy.ts';
import { benchBodies } from './bodies.ts';
import { benchConnections } from './connections.ts';
import { benchConsole } from './console.ts';
import { benchEngines } from './engines.ts';
import { benchFaults } from './faults.ts';
import { benchFirstUses } from './first-uses.ts';
import { benchGateway } from './gateway.ts';
import { benchInbox } from './inbox.ts';
import { benchKnownKeys } from './known-keys.ts';
import { benchLatency } from './latency.ts';
import { thisMachine } from './machine.ts';
import { benchMemory } from './memory.ts';
import { benchPurchases } from './purchases.ts';
import { benchRedis } from './redis.ts';
import { writeReport } from './report.ts';
import { type Outcome, tableLines, writeResults } from './results.ts';
import { benchRevocation } from './revocation.ts';
import { benchSlowReader } from './slow-reader.ts';
import { targetLines } from './targets.ts';
import { benchWrongKeys } from './wrong-keys.ts';

/** All there is, in the order in which they run. */
const BENCHES: Record<string, (options: { quick: boolean }) => Promise<Outcome>> = {
  gateway: benchGateway,
  latency: benchLatency,
  connections: benchConnections,
  bodies: benchBodies,
  memory: benchMemory,
  'slow-reader': benchSlowReader,
  'first-uses': benchFirstUses,
  'known-keys': benchKnownKeys,
  'wrong-keys': benchWrongKeys,
  redis: benchRedis,
  engines: benchEngines,
  accuracy: benchAccuracy,
  revocation: benchRevocation,
  faults: benchFaults,
  purchases: benchPurchases,
  inbox: benchInbox,
  console: benchConsole,
};

// What the benchmarks started ends with this process.
process.on('SIGINT', () => process.exit(130));
process.on('SIGTERM', () => process.exit(143));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
});
if (values.help) {
  console.log(`npm run bench [-- <names> --quick]\nBenchmarks: ${Object.keys(BENCHES).join(', ')}.`);
  process.exit(0);
}
const unknown = positionals.find((name) => !Object.hasOwn(BENCHES, name));
if (unknown) {
  console.error(`There is no benchmark "${unknown}". Benchmarks: ${Object.keys(BENCHES).join(', ')}.`);
  process.exit(1);
}
const quick = values.quick ?? false;
const machine = thisMachine();
console.log(
  `Node ${machine.node}, ${machine.cores} cores, ${machine.processor}. Medians; in brackets the smallest and largest run.`,
);
for (const [name, bench] of Object.entries(BENCHES)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  console.error(`\n${name}${quick ? ', quick' : ''}`);
  const results = {
    bench: name,
    takenAt: new Date().toISOString(),
    quick,
    machine,
    ...(await bench({ quick })),
  };
  console.log();
  for (const line of tableLines(results.figures)) console.log(line);
  for (const line of targetLines(name, results.figures)) console.log(line);
  if (!quick) writeResults(results);
}
if (quick)
  console.log(
    '\nA quick run is too short to be quoted: bench/results and docs/performance.md stay as they were.',
  );
else writeReport();
process.exit(0);
