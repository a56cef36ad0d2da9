import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { encodeBase62 } from '../shared/base62.ts';
import { mintKey, parseKey } from '../shared/keys.ts';
import { compare, type Reading, type Run } from './arena.ts';
import { tollgateFastLane, tollgateNodeHttp } from './contenders/tollgate.ts';
import { LOAD_CORE, load } from './load.ts';
import { run } from './processes.ts';
import type { Outcome } from './results.ts';

const CONNECTIONS = 64;
/** Wrong keys of each kind; each is sent again only after so many others. */
const WRONG_KEYS = 50_000;
const RATES = [2000, 10_000];
/** Not the address of those with good keys. */
const FLOOD_FROM = '127.0.0.2';

/** What those with good keys get at full load, without and with a flood of wrong keys from other connections. */
export async function benchWrongKeys({ quick }: { quick: boolean }): Promise<Outcome> {
  const seconds = quick ? 2 : 4;
  const outcome = await compare(
    [tollgateNodeHttp, tollgateFastLane],
    { rounds: quick ? 1 : 3, warmUpSeconds: quick ? 1 : 2 },
    (each) => flooded(each, seconds),
  );
  const conditions = {
    connections: CONNECTIONS,
    'seconds a run': seconds,
    'wrong keys of each kind': WRONG_KEYS,
    ...outcome.conditions,
    flood:
      'by bench/flood.ts over 64 further connections from one other address, on the core of the load generator',
  };
  return { ...outcome, conditions };
}

async function flooded({ url, arena, wentItsWay }: Run, seconds: number): Promise<Reading> {
  const good = { url, keyFile: arena.keys.keyFile, connections: CONNECTIONS, seconds };
  const reading: Reading = {};
  const before = (await load(good)).perSecond;
  await wentItsWay?.();
  const floods: { name: string; share: number; perSecond: number }[] = [];
  for (const [kind, keyOf] of Object.entries(WRONG)) {
    const keyFile = join(arena.folder, `wrong-${kind.replace(/\W/g, '-')}`);
    const { keys } = arena.keys;
    const wrong = Array.from({ length: WRONG_KEYS }, (_, i) =>
      keyOf((keys[i % keys.length] as { plaintext: string }).plaintext),
    );
    writeFileSync(keyFile, `${wrong.join('\n')}\n`);
    for (const rate of RATES) {
      const args = ['bench/flood.ts', url, keyFile, String(rate), String(seconds + 1), FLOOD_FROM];
      const flood = run<{ perSecond: number }>(args, LOAD_CORE);
      const [{ perSecond }, sent] = await Promise.all([load(good), flood]);
      floods.push({ name: `${kind}, ${rate} /s`, share: perSecond, perSecond: sent.perSecond });
    }
  }
  // Before and after, as the machine may have become slower meanwhile.
  const alone = (before + (await load(good)).perSecond) / 2;
  reading['good keys alone'] = { value: alone, unit: '/s' };
  for (const { name, share, perSecond } of floods) {
    reading[`with ${name}`] = { value: share / alone, unit: '' };
    reading[`answered of ${name}`] = { value: perSecond, unit: '/s' };
  }
  return reading;
}

const WRONG: Readonly<Record<string, (good: string) => string>> = {
  'never issued': () => mintKey('tg', 'test').plaintext,
  'bad checksum': (good) => `${good.slice(0, -6)}${mintKey('tg', 'test').plaintext.slice(-6)}`,
  'wrong secret': (good) => {
    const { prefix, mode, id } = parseKey(good) as { prefix: string; mode: 'test'; id: string };
    const body = `${prefix}_${mode}_${id}${mintKey(prefix, mode).secret}`;
    return body + encodeBase62(crc32(body), 6);
  },
};
