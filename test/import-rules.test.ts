import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from './keystores.ts';

/** What the project's linter settings say of a file at this path that imports this module. */
function lint(path: string, specifier: string): string {
  const folder = temporaryFolder();
  copyFileSync('biome.json', join(folder, 'biome.json'));
  copyFileSync('.gitignore', join(folder, '.gitignore'));
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  writeFileSync(join(folder, path), `import * as thing from '${specifier}';\n\nexport const used = thing;\n`);
  const biome = join(process.cwd(), 'node_modules', '.bin', 'biome');
  const { stdout, stderr } = spawnSync(biome, ['lint', '--colors=off', '.'], {
    cwd: folder,
    encoding: 'utf8',
  });
  return stdout + stderr;
}

describe('the linter keeps the rooms apart', () => {
  it.each([
    ['gateway/x.ts', '../billing/settle.ts', 'gateway/ imports keystore/ and shared/ only'],
    ['gateway/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['gateway/x.ts', 'better-sqlite3', 'Only keystore/ speaks SQL'],
    ['billing/x.ts', '../gateway/decision/decide.ts', 'billing/ imports keystore/ and shared/ only'],
    ['billing/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['billing/preflight/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['billing/stripe-x.ts', '../gateway/decision/decide.ts', 'billing/ imports keystore/ and shared/ only'],
    ['billing/x.ts', 'kysely', 'Only keystore/ speaks SQL'],
    ['billing/x.ts', '../licensing/routes.ts', 'billing/ imports keystore/ and shared/ only'],
    ['licensing/x.ts', '../billing/server.ts', 'licensing/ imports keystore/ and shared/ only'],
    ['licensing/x.ts', '../gateway/decision/decide.ts', 'licensing/ imports keystore/ and shared/ only'],
    ['licensing/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['licensing/x.ts', 'kysely', 'Only keystore/ speaks SQL'],
    ['gateway/x.ts', '../licensing/routes.ts', 'gateway/ imports keystore/ and shared/ only'],
    ['shared/x.ts', '../keystore/keystore.ts', 'shared/ imports no other room'],
    ['keystore/x.ts', '../gateway/decision/decide.ts', 'keystore/ imports shared/ only'],
    ['keystore/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['sandbox/x.ts', '../shared/config.ts', 'sandbox/ imports no other room'],
    ['sandbox/x.ts', 'stripe', 'sandbox/ is Stripe'],
    ['client/src/x.ts', '../../shared/keys.ts', 'client/ imports no other room'],
    ['client/src/cli/x.ts', '../../../gateway/server.ts', 'client/ imports no other room'],
    ['client/src/x.ts', 'undici', 'client/ uses nothing but what Node has'],
    ['client/src/x.ts', 'express', 'client/ uses nothing but what Node has'],
    ['client/src/x.ts', '@scope/package', 'client/ uses nothing but what Node has'],
    ['scripts/x.ts', 'stripe', 'Only billing/stripe* calls Stripe'],
    ['scripts/x.ts', 'kysely', 'Only keystore/ speaks SQL'],
  ])('%s may not import %s', (path, specifier, message) => {
    expect(lint(path, specifier)).toContain(message);
  });

  it.each([
    ['gateway/x.ts', '../keystore/keystore.ts'],
    ['billing/stripe-x.ts', 'stripe'],
    ['keystore/x.ts', 'kysely'],
    ['scripts/x.ts', '../billing/server.ts'],
    ['client/src/cli/x.ts', '../key.ts'],
    ['client/src/x.ts', './key.ts'],
    ['client/src/x.ts', 'node:crypto'],
    ['client/src/x.ts', 'node:fs/promises'],
    ['licensing/x.ts', '../keystore/keystore.ts'],
    ['billing/main.ts', '../licensing/routes.ts'],
  ])('%s may import %s', (path, specifier) => {
    const said = lint(path, specifier);
    expect(said).toContain('Checked 2 files');
    expect(said).not.toContain('noRestrictedImports');
  });
});
