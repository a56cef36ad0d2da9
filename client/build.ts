import { execFileSync } from 'node:child_process';
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Builds `dist/`: `esm/` with the library and the command line, `cjs/` with the library for `require`, types beside each.
 */
const FOLDER = import.meta.dirname;
const DIST = join(FOLDER, 'dist');
// Beside the package.json of the compiler, whose exports do not name its program.
const TSC = join(dirname(fileURLToPath(import.meta.resolve('typescript/package.json'))), 'bin', 'tsc');

rmSync(DIST, { recursive: true, force: true });
for (const project of ['tsconfig.json', 'tsconfig.cjs.json']) {
  execFileSync(process.execPath, [TSC, '--project', join(FOLDER, project)], { stdio: 'inherit' });
}
// The compiler leaves `.ts` in the imports of declarations. It finds them all the same; other programs do not.
for (const name of readdirSync(DIST, { recursive: true, encoding: 'utf8' })) {
  if (!name.endsWith('.d.ts')) continue;
  const path = join(DIST, name);
  writeFileSync(path, readFileSync(path, 'utf8').replace(/(from '\.{1,2}\/[^']+)\.ts'/g, "$1.js'"));
}
// The package is ESM: what lies in here is not.
writeFileSync(join(DIST, 'cjs', 'package.json'), '{ "type": "commonjs" }\n');
chmodSync(join(DIST, 'esm', 'cli', 'main.js'), 0o755);
