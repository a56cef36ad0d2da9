import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/keystores.ts';
import { type LicenceStandIn, startLicenceStandIn } from '../../test/licence-stand-in.ts';
import { TollgateError } from './error.ts';
import { type Licence, LicenceFile, NO_LICENCE } from './licence-file.ts';
import { readToken } from './token.ts';

const FULL: Licence = {
  key: 'acme_test_x',
  keyFrom: 'purchase',
  plan: 'pro',
  mode: 'test',
  entitlement: {
    token: 'a.b.c',
    receivedAt: 1,
    refreshAt: 2,
    heartbeatS: 60,
    clock: { latest: 3, offset: -4, mac: 'm' },
  },
  ended: { code: 'subscription_ended', detail: 'Over.', remedy: null, at: 5 },
  askAgainAt: 6,
  trialId: 'tri_1',
};

let seller: LicenceStandIn | undefined;
afterEach(async () => {
  await seller?.close();
  seller = undefined;
});

it('is read as it was written', async () => {
  const file = new LicenceFile(temporaryFolder());
  expect(await file.read()).toEqual(NO_LICENCE);
  for (const licence of [FULL, NO_LICENCE]) {
    await file.replace(licence);
    expect(await file.read()).toEqual(licence);
  }
});

it('whatever stands in it, it is a licence or damaged, and is left alone', async () => {
  const file = new LicenceFile(temporaryFolder());
  await file.replace(FULL);
  const good = JSON.parse(readFileSync(file.path, 'utf8'));
  const member = fc.constantFrom(...Object.keys(good));
  const inner = fc.constantFrom(...Object.keys(good.entitlement), ...Object.keys(good.ended));
  const content = fc.oneof(
    fc.json(),
    fc.string(),
    fc.tuple(member, fc.jsonValue()).map(([name, value]) => JSON.stringify({ ...good, [name]: value })),
    fc.tuple(inner, fc.jsonValue()).map(([name, value]) =>
      JSON.stringify({
        ...good,
        entitlement: { ...good.entitlement, [name]: value },
        ended: { ...good.ended, [name]: value },
      }),
    ),
  );
  await fc.assert(
    fc.asyncProperty(content, async (text) => {
      writeFileSync(file.path, text);
      const outcome = await file.read().catch((error) => error);
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(TollgateError);
        expect((outcome as TollgateError).code).toBe('storage_corrupt');
      }
      expect(readFileSync(file.path, 'utf8')).toBe(text);
    }),
    { numRuns: 500 },
  );
});

it('a key of which there may be no other copy is kept beside the one that takes its place', async () => {
  const folder = temporaryFolder();
  const file = new LicenceFile(folder);
  await file.replace(FULL);
  await file.replace({ ...NO_LICENCE, key: 'acme_test_y', keyFrom: 'given' });
  await file.replace({ ...NO_LICENCE, key: 'acme_test_z', keyFrom: 'given' });
  const kept = readdirSync(folder).filter((name) => name.includes('.replaced-'));
  expect(kept).toHaveLength(1);
  expect(readFileSync(join(folder, kept[0] as string), 'utf8')).toContain('acme_test_x');
});

it('programs that use different keys at once never leave the token of one beside the key of the other', async () => {
  seller = await startLicenceStandIn();
  const folder = temporaryFolder();
  const programs = ['pro', 'team', 'pro'].map((plan) => {
    const { key } = (seller as LicenceStandIn).sell(plan);
    const source = `
      import { Tollgate } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
      const tollgate = new Tollgate(${JSON.stringify({ server: seller?.url, product: 'acme', folder })});
      for (let i = 0; i < 15; i++) {
        await tollgate.activate(${JSON.stringify(key)}).catch((error) => { if (error.name !== 'TollgateError') throw error; });
        await tollgate.refresh().catch((error) => { if (error.name !== 'TollgateError') throw error; });
      }`;
    return spawn(process.execPath, ['--input-type=module', '-e', source], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  });
  let running = true;
  const codes = Promise.all(programs.map(async (each) => (await once(each, 'close'))[0])).finally(() => {
    running = false;
  });
  let pairs = 0;
  while (running) {
    const [name] = readdirSync(folder).filter((each) => each.startsWith('acme@'));
    if (name !== undefined) {
      const { key, entitlement } = await new LicenceFile(join(folder, name)).read();
      if (key !== null && entitlement !== null) {
        expect(key).toContain(`acme_test_${readToken(entitlement.token).claims.keyId}`);
        pairs += 1;
      }
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await codes).toEqual([0, 0, 0]);
  expect(pairs).toBeGreaterThan(5);
});
