import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from './keystores.ts';
import { type LicenceStandIn, startLicenceStandIn } from './licence-stand-in.ts';

const CLIENT = join(import.meta.dirname, '..', 'client');
const MODULES = join(import.meta.dirname, '..', 'node_modules');
/** Without what the project brings. */
const SYSTEM_PATH = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .join(delimiter);

/** Runtimes to try: the pinned one, and the system's where it is another one that the package is for. */
const RUNTIMES: [string, string][] = [[process.version, process.execPath]];
const system = systemNode();
if (system !== null && system[0] !== process.version) RUNTIMES.push(system);

function systemNode(): [string, string] | null {
  try {
    const said = execFileSync('node', ['-p', 'process.version + " " + process.execPath'], {
      encoding: 'utf8',
      env: { ...process.env, PATH: SYSTEM_PATH },
    });
    const [version = '', path = ''] = said.trim().split(' ');
    return Number(version.slice(1).split('.')[0]) >= 20 ? [version, path] : null;
  } catch {
    return null;
  }
}

/** What a program says that uses the package, by `import` and by `require`. */
const USES = `
const { Tollgate, TollgateError, requireKey, verifyKey } = tollgate;
const [server, key, folder] = process.argv.slice(2);
(async () => {
  const licence = new Tollgate({ server, product: 'acme', folder });
  const now = await licence.activate(key);
  const error = await licence.requirePlan('team').catch((error) => error);
  console.log(JSON.stringify([now.code, await licence.hasFeature('export'), error instanceof TollgateError, error.code, typeof requireKey, typeof verifyKey]));
})();
`;
const SAID = JSON.stringify(['active', true, true, 'plan_required', 'function', 'function']);

let tarball: string;
let project: string;
let seller: LicenceStandIn;

beforeAll(async () => {
  seller = await startLicenceStandIn();
  const folder = temporaryFolder();
  npm(CLIENT, 'pack', '--pack-destination', folder);
  const { name, version } = JSON.parse(readFileSync(join(CLIENT, 'package.json'), 'utf8'));
  tarball = join(folder, `${name}-${version}.tgz`);
  project = join(folder, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "project", "private": true }');
  npm(project, 'install', '--offline', '--no-audit', '--no-fund', tarball);
  writeFileSync(join(project, 'use.mjs'), `import * as tollgate from 'tollgate';\n${USES}`);
  writeFileSync(join(project, 'use.cjs'), `const tollgate = require('tollgate');\n${USES}`);
});

afterAll(() => seller.close());

function npm(cwd: string, ...args: string[]): string {
  return execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

it('the package holds what was built, a manual and a license, and nothing else; it needs no other package', () => {
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n');
  expect(files).toEqual(
    expect.arrayContaining(['package/README.md', 'package/LICENSE', 'package/package.json']),
  );
  const rest = files.filter((file) => !/^package\/(README\.md|LICENSE|package\.json)$/.test(file));
  for (const file of rest)
    expect(file).toMatch(
      /^package\/dist\/(esm|cjs)\/[\w/-]+(\.js|\.d\.ts)$|^package\/dist\/cjs\/package\.json$/,
    );
  expect(files.filter((file) => file.includes('test'))).toEqual([]);
  const { dependencies } = JSON.parse(npm(project, 'ls', '--json', '--all'));
  expect(Object.keys(dependencies)).toEqual(['tollgate']);
  expect(dependencies.tollgate.dependencies).toBeUndefined();
});

describe.each(RUNTIMES)('under Node %s', (_version, node) => {
  const run = (...args: string[]) =>
    execFileSync(node, args, { cwd: project, encoding: 'utf8', env: { PATH: SYSTEM_PATH } });

  // Not waited for at one go: the seller's server in this process has to answer. A warning of Node's is a failure.
  it.each(['use.mjs', 'use.cjs'])('%s activates a licence and uses it', async (file) => {
    const said = await new Promise<string>((resolve, reject) => {
      const args = [file, seller.url, seller.sell('pro').key, temporaryFolder()];
      execFile(node, args, { cwd: project }, (error, stdout, stderr) =>
        error || stderr !== '' ? reject(error ?? new Error(stderr)) : resolve(stdout.trim()),
      );
    });
    expect(said).toBe(SAID);
  });

  it('the command line starts', () => {
    const bin = join(project, 'node_modules', '.bin', 'tollgate');
    const { version } = JSON.parse(readFileSync(join(CLIENT, 'package.json'), 'utf8'));
    expect(run(bin, '--version')).toBe(`${version}\n`);
    expect(run(bin, '--help')).toContain('Usage: tollgate <command>');
  });
});

it('npx finds the command', () => {
  expect(npm(project, 'exec', '--offline', '--no', '--', 'tollgate', '--help')).toContain(
    'Usage: tollgate <command>',
  );
});

describe('types', () => {
  const USE = `
const licence = new Tollgate({ server: 'https://buy.example.com', product: 'acme' });
export async function check(request: Request): Promise<string | null> {
  const { entitled, plan, licence: said }: Entitlements = await licence.entitlements();
  const until: Date | undefined = said?.expiresAt;
  const verdict = await verifyKey(request, { gateway: 'http://127.0.0.1:8013', address: '192.0.2.1' });
  if (!verdict.allowed) return \`\${verdict.response.status}\`;
  // @ts-expect-error there is no such option
  new Tollgate({ server: '', product: '', colour: 'red' });
  return entitled && until ? plan : verdict.consumer.id;
}
`;

  /** What the compiler says of these files. */
  function compiled(options: object, sources: Record<string, string>): string {
    for (const [name, source] of Object.entries(sources)) writeFileSync(join(project, name), source);
    const compilerOptions = { module: 'nodenext', target: 'es2022', strict: true, noEmit: true, ...options };
    const files = Object.keys(sources);
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
    try {
      const tsc = join(MODULES, 'typescript', 'bin', 'tsc');
      return execFileSync(process.execPath, [tsc], { cwd: project, encoding: 'utf8' });
    } catch (error) {
      return (error as { stdout: string }).stdout;
    }
  }

  /** By `import` and by `require`. */
  function check(options: object, more = ''): string {
    const source = `import { Tollgate, verifyKey, requireKey, type Entitlements } from 'tollgate';\n${USE}${more}`;
    return compiled(options, { 'use-types.mts': source, 'use-types.cts': source });
  }

  it('hold for import and require, with and without the types of Node', () => {
    expect(
      check({ lib: ['es2023', 'dom', 'dom.iterable'], types: [], skipLibCheck: true }, 'void requireKey;'),
    ).toBe('');
  });

  it("fit Express's, and the manual's examples", () => {
    const types = join(project, 'node_modules', '@types');
    symlinkSync(join(MODULES, '@types'), types);
    const options = { lib: ['es2023'], types: ['node'], skipLibCheck: false, preserveSymlinks: false };
    const use = `
import type { RequestHandler } from 'express';
export const handler: RequestHandler = requireKey({ gateway: 'http://127.0.0.1:8013' });
`;
    expect(check(options, use)).toBe('');
    const manual = readFileSync(join(CLIENT, 'README.md'), 'utf8');
    const examples = [...manual.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code as string);
    expect(examples).toHaveLength(6);
    expect(compiled(options, Object.fromEntries(examples.map((code, i) => [`example-${i}.mts`, code])))).toBe(
      '',
    );
  });
});
