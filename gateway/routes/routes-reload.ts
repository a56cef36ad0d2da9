import { type FSWatcher, watch } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { Counter, Gauge, type Registry } from 'prom-client';
import { ConfigError } from '../../shared/config.ts';
import type { Logger } from '../../shared/log.ts';
import type { RouteSpec } from './route-spec.ts';
import type { Routes } from './routes.ts';

/** Whoever writes a file writes it in several steps: it is read when nothing has happened to it for so long. */
const QUIET_MS = 200;

type Options = {
  file: string;
  /** @throws ConfigError with every mistake in the file */
  read(): readonly RouteSpec[];
  routes: Pick<Routes, 'all' | 'replace'>;
  log: Logger;
};

/** Puts the routes of a file into force again when the file changes, or when told to. A bad file changes nothing. */
export class RoutesReload {
  readonly #options: Options;
  readonly #watcher: FSWatcher | null;
  #timer: NodeJS.Timeout | undefined;
  /** Times that the file could not be used, since the start. */
  failures = 0;
  /** When the routes in force were last found to be those of the file. Milliseconds since the epoch. */
  loadedAt = Date.now();

  constructor(options: Options) {
    this.#options = options;
    this.#watcher = this.#watch(resolve(options.file));
  }

  /** Reads the file and puts it into force; what is wrong with it is logged. */
  reload(): void {
    const { file, read, routes, log } = this.#options;
    const before = routes.all;
    try {
      routes.replace(read());
    } catch (error) {
      this.failures++;
      if (error instanceof ConfigError) {
        for (const { message, example } of error.problems) log.error({ file, example }, message);
      } else log.error({ err: error, file }, 'The routes cannot be read');
      log.error({ file }, 'The routes stay as they were before: the file has mistakes');
      return;
    }
    this.loadedAt = Date.now();
    const changed = before.length !== routes.all.length || routes.all.some((route, i) => route !== before[i]);
    log.info(
      { file, routes: routes.all.map(({ name }) => name) },
      changed ? 'Other routes are in force' : 'The routes were read again and are the same',
    );
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#watcher?.close();
  }

  /**
   * Watches the folder rather than the file, which editors replace. In a Kubernetes volume the file is a link into a
   * folder of another name each time, and the names that change begin with two dots.
   */
  #watch(file: string): FSWatcher | null {
    const name = basename(file);
    const { log } = this.#options;
    const cannot = (error: unknown) =>
      log.warn({ err: error, file }, 'Changes of the routes file are not noticed; send SIGHUP after them');
    try {
      const watcher = watch(dirname(file), { persistent: false }, (_event, changed) => {
        if (changed === null || changed === name || changed.startsWith('..')) this.#reloadSoon();
      });
      watcher.on('error', cannot);
      return watcher;
    } catch (error) {
      cannot(error);
      return null;
    }
  }

  #reloadSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.reload(), QUIET_MS);
    this.#timer.unref();
  }
}

/** How reloading goes, read when somebody asks. */
export function registerReloadMetrics(registry: Registry, reload: RoutesReload): void {
  new Counter({
    name: 'tollgate_gateway_routes_reload_failures_total',
    help: 'Times that a changed routes file could not be used, and the routes stayed as they were.',
    registers: [registry],
    collect() {
      this.reset();
      this.inc(reload.failures);
    },
  });
  new Gauge({
    name: 'tollgate_gateway_routes_loaded_timestamp_seconds',
    help: 'When the routes in force were last found to be those of the routes file.',
    aggregator: 'min',
    registers: [registry],
    collect() {
      this.set(reload.loadedAt / 1000);
    },
  });
}
