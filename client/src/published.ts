import { join } from 'node:path';
import { type Catalogue, readCatalogue } from './catalogue.ts';
import { TollgateError } from './error.ts';
import { readJson, remove, writeJson } from './files.ts';
import type { Server } from './server.ts';
import { count, ShapeError, shape } from './shape.ts';
import { type PublishedKeys, readKeySet } from './signing-keys.ts';

/** Something that anybody may have from the server, kept so that it is there without a network. */
export type Kept<T> = { value: T; fetchedAt: number };

/** Whether it need not be asked for again. A time to come was written by a clock that was wrong, or by somebody's hand. */
export function isFresh({ fetchedAt }: { fetchedAt: number }, ageMs: number, now = Date.now()): boolean {
  return fetchedAt <= now && now - fetchedAt < ageMs;
}

/**
 * What a server publishes: its signing keys, and what the free plan includes. Kept in files whose loss does no harm, so one
 * that is damaged or cannot be read is as good as none.
 */
export class Published {
  readonly #server: Server;
  readonly #keysPath: string;
  readonly #demoPath: string;

  /** @param folder of the product */
  constructor(server: Server, folder: string) {
    this.#server = server;
    this.#keysPath = join(folder, 'signing-keys.json');
    this.#demoPath = join(folder, 'demo.json');
  }

  async keptKeys(): Promise<PublishedKeys | null> {
    const kept = await read(this.#keysPath, readKeySet);
    return kept && { keys: kept.value, fetchedAt: kept.fetchedAt };
  }

  /** @throws TollgateError those of {@link Server.ask} */
  async fetchKeys(): Promise<PublishedKeys> {
    const keys = await this.#fetch('/.well-known/jwks.json', this.#keysPath, readKeySet);
    return { keys: keys.value, fetchedAt: keys.fetchedAt };
  }

  /** What somebody without a licence has. */
  async keptDemo(): Promise<Kept<Catalogue> | null> {
    return read(this.#demoPath, readCatalogue);
  }

  /** @throws TollgateError those of {@link Server.ask} */
  async fetchDemo(): Promise<Kept<Catalogue>> {
    return this.#fetch('/licences/features', this.#demoPath, readCatalogue);
  }

  /** Forgets all of it. */
  async clear(): Promise<void> {
    await Promise.all([remove(this.#keysPath), remove(this.#demoPath)]);
  }

  async #fetch<T>(path: string, file: string, parse: (value: unknown) => T): Promise<Kept<T>> {
    const { body } = await this.#server.ask('GET', path);
    const value = understood(() => parse(body));
    const fetchedAt = Date.now();
    await writeJson(file, { version: 1, fetched_at: fetchedAt, said: body }).catch((error) => {
      // It is here for now all the same.
      if (!(error instanceof TollgateError)) throw error;
    });
    return { value, fetchedAt };
  }
}

/** @throws TollgateError `unexpected_answer` for what is not of the form that it has to have */
export function understood<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new TollgateError(
      'unexpected_answer',
      `The server's answer cannot be understood (${error.message}).`,
      'Perhaps this program is older than the server: update it. Otherwise contact the seller.',
      { cause: error },
    );
  }
}

async function read<T>(path: string, parse: (value: unknown) => T): Promise<Kept<T> | null> {
  try {
    const content = await readJson(path);
    if (content === undefined) return null;
    const file = shape(content, 'the file');
    return { value: parse(file.said), fetchedAt: count(file, 'fetched_at') };
  } catch (error) {
    if (error instanceof ShapeError) return null;
    if (error instanceof TollgateError) return null;
    throw error;
  }
}
