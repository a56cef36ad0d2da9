import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from './keystores.ts';

const image = temporaryFolder();
const copied = [...readFileSync('docker/Dockerfile', 'utf8').matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(
  ([, paths]) => paths!.split(' '),
);
for (const path of copied) cpSync(path, join(image, path), { recursive: true });
mkdirSync(join(image, 'data'));
symlinkSync(resolve('node_modules'), join(image, 'node_modules'));

/** Runs a file as the image has it, with an environment that no service takes. */
function start(file: string, ...more: string[]) {
  return spawnSync(process.execPath, [file, ...more], {
    cwd: image,
    encoding: 'utf8',
    env: { NODE_ENV: 'production' },
  });
}

it.each(['gateway', 'billing', 'licensing'])('the image has all that %s imports', (service) => {
  // It gets as far as its configuration.
  const { status, stderr } = start(`${service}/main.ts`);
  expect({ status, stderr }).toMatchObject({
    status: 78,
    stderr: expect.stringContaining('TOLLGATE_SECRET'),
  });
});

it.each([
  'admin',
  'events',
  'keys',
  'keystore',
  'licences',
  'payment-link',
  'preflight',
  'reconcile',
  'rehearsal',
  'why',
])('the image has all that npm run %s imports', (name) => {
  const { status, stderr } = start(`scripts/${name}.ts`, '--help');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});

it('nothing of that is kept out of what the image is built from', () => {
  const kept = readFileSync('.dockerignore', 'utf8').split('\n');
  for (const path of copied) expect(kept).toContain(`!${path}`);
});
