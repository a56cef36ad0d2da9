import { readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readCatalogue } from '../catalogue.ts';
import { corrupt, readJson, writeJson } from '../files.ts';
import { productFolder } from '../folder.ts';
import { Server, serverUrl } from '../server.ts';
import { ShapeError, shape, text } from '../shape.ts';
import { Tollgate } from '../tollgate.ts';
import { UsageError } from './exit-codes.ts';

/** Which seller and product a command is about. */
export type Chosen = { server?: string | undefined; product?: string | undefined };

const SERVER_REMEDY = 'Give --server https://..., or set TOLLGATE_SERVER: the seller tells you the address.';
const PRODUCT_REMEDY =
  'Give --product, or set TOLLGATE_PRODUCT: what the keys begin with, such as tg in tg_live_...';

/** Remembers what the last command was about, so that the next one need not be told. */
export class Current {
  /** Of all products. */
  readonly folder: string;
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(folder: string, env: Readonly<Record<string, string | undefined>>) {
    this.folder = folder;
    this.#env = env;
  }

  get #path(): string {
    return join(this.folder, 'current.json');
  }

  /** The server to ask: named, by the environment, or the last one. @throws UsageError for want of all of these */
  async server(chosen: Chosen): Promise<string> {
    const server = await this.#findServer(chosen);
    if (server === null) throw new UsageError('Which server?', SERVER_REMEDY);
    return server;
  }

  /** The product to act on. @throws UsageError when it cannot be told */
  async tollgate(chosen: Chosen): Promise<Tollgate> {
    const server = await this.server(chosen);
    const product = await this.#findProduct(server, chosen);
    if (product === null) throw new UsageError(`Which product of ${server}?`, PRODUCT_REMEDY);
    return this.of(server, product);
  }

  /** As {@link tollgate}; a server that was never dealt with here is asked what its product is. */
  async tollgateAt(chosen: Chosen): Promise<Tollgate> {
    const server = await this.server(chosen);
    const known = await this.#findProduct(server, chosen);
    return this.of(server, known ?? (await productAt(server)));
  }

  /** As {@link tollgate}; `null` when nothing was ever set up here. */
  async tollgateIfAny(chosen: Chosen): Promise<Tollgate | null> {
    const server = await this.#findServer(chosen);
    const product = server === null ? null : await this.#findProduct(server, chosen);
    return server === null || product === null ? null : this.of(server, product);
  }

  of(server: string, product: string): Tollgate {
    try {
      return new Tollgate({ server, product, folder: this.folder });
    } catch (error) {
      if (error instanceof TypeError) throw new UsageError(`"${product}" is no product.`, PRODUCT_REMEDY);
      throw error;
    }
  }

  async remember({ server, product }: { server: string; product: string }): Promise<void> {
    const last = await this.#last();
    if (last?.server === server && last.product === product) return;
    await writeJson(this.#path, { version: 1, server, product });
  }

  async #findServer({ server }: Chosen): Promise<string | null> {
    const named = server ?? this.#env.TOLLGATE_SERVER;
    if (named) return serverUrl(named);
    return (await this.#last())?.server ?? null;
  }

  async #findProduct(server: string, { product }: Chosen): Promise<string | null> {
    const named = product ?? this.#env.TOLLGATE_PRODUCT;
    if (named) return named;
    const last = await this.#last();
    if (last?.server === server) return last.product;
    const known = await this.#productsOf(server);
    return known.length === 1 ? (known[0] as string) : null;
  }

  async #last(): Promise<{ server: string; product: string } | null> {
    const content = await readJson(this.#path);
    if (content === undefined) return null;
    try {
      const file = shape(content, 'the file');
      return { server: text(file, 'server'), product: text(file, 'product') };
    } catch (error) {
      if (error instanceof ShapeError) throw corrupt(this.#path, error.message);
      throw error;
    }
  }

  async #productsOf(server: string): Promise<string[]> {
    const end = basename(productFolder(this.folder, server, ''));
    const names = await readdir(this.folder).catch(() => []);
    return names.filter((name) => name.endsWith(end)).map((name) => name.slice(0, -end.length));
  }
}

async function productAt(url: string): Promise<string> {
  const { body } = await new Server(url).ask('GET', '/licences/features');
  try {
    return readCatalogue(body).product;
  } catch (error) {
    if (error instanceof ShapeError) throw new UsageError(`Which product of ${url}?`, PRODUCT_REMEDY);
    throw error;
  }
}
