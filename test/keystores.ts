import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Keystore, type KeystoreOptions, openKeystore } from '../keystore/keystore.ts';
import { createLogger } from '../shared/log.ts';
import { newPostgresUrl } from './services.ts';

export const SERVER_SECRET = 'c2VydmVyIHNlY3JldCBvZiB0aGUgdGVzdHMgb25seQ==';

/** What a key is made with where nothing about it matters: of the plan without limits, with nobody who bought it. */
export const TEST_KEY = {
  mode: 'test',
  prefix: 'tg',
  planId: 'open',
  name: null,
  expiresAt: null,
  actor: 'test',
} as const;

/** A fresh folder under the system's temporary one. */
export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'tollgate-test-'));
}

/** The address of a keystore that does not exist yet, on the database that this run is about. */
export function newKeystoreUrl(): string {
  return process.env.TEST_KEYSTORE === 'postgres' ? newPostgresUrl() : newSqliteUrl();
}

/** The address of a keystore file that does not exist yet. */
export function newSqliteUrl(): string {
  return `sqlite:${join(temporaryFolder(), 'keystore.sqlite')}`;
}

/** Opens a keystore with test settings; a new file unless `url` is given. */
export function openTestKeystore(options: Partial<KeystoreOptions> = {}): Promise<Keystore> {
  return openKeystore({
    url: newKeystoreUrl(),
    serverSecret: SERVER_SECRET,
    keyHash: { memoryKib: 4096, passes: 1, lanes: 1 },
    revealTtlMs: 7 * 86_400_000,
    log: createLogger({ level: 'silent' }),
    pollMs: 20,
    ...options,
  });
}
