import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KeyHashCost } from '../keystore/key-hash.ts';
import { openKeystore } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';

/** The server secret of every benchmark. */
export const SERVER_SECRET = 'YmVuY2htYXJrIHNlY3JldCwgbm90IHVzZWQgYW55d2hlcmUgZWxzZQ==';
/** The plan of every key made here. */
export const PLAN = 'bench';
/**
 * The least Argon2id takes: what a first use costs is measured by itself, and elsewhere would only make the benchmark
 * wait. Once a key is remembered, its hash is not looked at.
 */
const CHEAP_HASH = { memoryKib: 8, passes: 1, lanes: 1 };

/** Keys in a keystore, and in the files that contenders and load generators read. */
export type SeededKeys = {
  keystoreUrl: string;
  /** How their secrets are hashed, as `KEY_HASH` has it. */
  keyHash: string;
  keys: readonly { plaintext: string; id: string }[];
  /** A key each line. */
  keyFile: string;
  /** A key and its id each line. */
  pairFile: string;
  /** The same as nginx's `map` includes it. */
  nginxMapFile: string;
};

/** Makes keys in a new keystore. */
export async function seedKeys(
  folder: string,
  count: number,
  keyHash: KeyHashCost = CHEAP_HASH,
): Promise<SeededKeys> {
  const keystoreUrl = `sqlite:${join(folder, 'keystore.sqlite')}`;
  const keystore = await openKeystore({
    url: keystoreUrl,
    serverSecret: SERVER_SECRET,
    keyHash,
    revealTtlMs: 1,
    log: createLogger({ level: 'silent' }),
  });
  const key = { mode: 'test' as const, prefix: 'tg', planId: PLAN, name: null, expiresAt: null };
  const keys: { plaintext: string; id: string }[] = [];
  while (keys.length < count) {
    const made = Array(Math.min(1000, count - keys.length)).fill(key);
    keys.push(...(await keystore.createKeys({ keys: made, actor: 'bench' })));
  }
  await keystore.close();
  const written = (name: string, line: (key: { plaintext: string; id: string }) => string) => {
    const file = join(folder, name);
    writeFileSync(file, `${keys.map(line).join('\n')}\n`);
    return file;
  };
  return {
    keystoreUrl,
    keyHash: `m=${keyHash.memoryKib},t=${keyHash.passes},p=${keyHash.lanes}`,
    keys,
    keyFile: written('keys', ({ plaintext }) => plaintext),
    pairFile: written('key-ids', ({ plaintext, id }) => `${plaintext} ${id}`),
    nginxMapFile: written('keys.map', ({ plaintext, id }) => `"${plaintext}" "${id}";`),
  };
}
