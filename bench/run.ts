import { availableParallelism, cpus } from 'node:os';
import { benchGateway } from './gateway.ts';
import { benchInbox } from './inbox.ts';
import { benchPurchases } from './purchases.ts';

const benches: Record<string, () => Promise<string[]>> = {
  purchases: benchPurchases,
  inbox: benchInbox,
  gateway: benchGateway,
};
const chosen = process.argv.slice(2);
const unknown = chosen.find((name) => !benches[name]);
if (unknown) {
  console.error(`There is no benchmark "${unknown}". Benchmarks: ${Object.keys(benches).join(', ')}.`);
  process.exit(1);
}
console.log(
  `Node ${process.version}, ${availableParallelism()} cores, ${cpus()[0]?.model ?? 'unknown processor'}. Medians; the machine's noise is in the spread.\n`,
);
for (const [name, bench] of Object.entries(benches)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  for (const line of await bench()) console.log(line);
}
