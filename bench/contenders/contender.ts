import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { SeededKeys } from '../keys.ts';
import type { Cores } from '../processes.ts';

/** What a contender is started with. */
export type Setup = {
  keys: SeededKeys;
  /** `host:port` of the API behind it. */
  upstream: string;
  /** Requests a key may make in a minute. */
  perKey: number;
  /** A folder for what it writes, of this run alone. */
  folder: string;
  /** The core it runs on; Tollgate can also have several. */
  core: Cores;
  /** Whatever is started is added here. */
  started: ChildProcess[];
};

/** A contender that accepts connections. */
export type StartedContender = {
  url: string;
  /** Its processes, without the children of theirs. */
  processes: ChildProcess[];
  /** Called after plain load: @throws Error when the load did not go the way that the contender stands for. */
  wentItsWay?(): Promise<void>;
};

/** One of those that are measured side by side. */
export type Contender = {
  /** What it is called in every table. */
  name: string;
  /** Whether it checks keys, counts and strips them: those that do not are a limit of what is possible. */
  works: boolean;
  /** What it is made of, with versions. Called only when nothing is missing. */
  madeOf(): string;
  /** `null` when it can be started here, otherwise what is missing and how to install it. */
  missing(): string | null;
  start(setup: Setup): Promise<StartedContender>;
};

export const FOLDER = import.meta.dirname;

/** The file of a program of the system, looked for where Debian puts it too, which may not be in a user's PATH. */
export function programFile(name: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/usr/local/sbin'];
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null;
}

/** Says how to install a program of the system, or `null` when it is there. */
export function missingProgram(name: string, debianPackage = name): string | null {
  return programFile(name) ? null : `${name} is not installed: apt-get install -y ${debianPackage}`;
}

/** The version of an installed Debian package, or `unknown`. */
export function debianVersion(debianPackage: string): string {
  try {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the placeholder is dpkg-query's
    const format = '${Version}';
    return execFileSync('dpkg-query', ['-W', '-f', format, debianPackage], { encoding: 'utf8' });
  } catch {
    return 'unknown';
  }
}

/** A configuration file with its `{{placeholders}}` filled in. @param file in this folder, or an absolute path */
export function filledIn(file: string, values: Readonly<Record<string, string | number>>): string {
  return readFileSync(resolve(FOLDER, file), 'utf8').replace(
    /\{\{(\w+)\}\}/g,
    (placeholder, name: string) => {
      const value = values[name];
      if (value === undefined) throw new Error(`${file} has ${placeholder}, which nobody fills in`);
      return String(value);
    },
  );
}
