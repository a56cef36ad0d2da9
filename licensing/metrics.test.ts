import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLogger } from '../shared/log.ts';
import { type LicensingUnderTest, startLicensingUnderTest } from '../test/licences.ts';
import { startLicensing } from './server.ts';

let test: LicensingUnderTest;
beforeEach(async () => {
  test = await startLicensingUnderTest();
});
afterEach(() => test.close());

it('counts what was asked, and what the answer was, also where that is a 200', async () => {
  const { key } = await test.buyKey('solo');
  await test.ask('activate', { key, device: { id: 'device-one' } });
  await test.ask('activate', { key, device: { id: 'device-two' } });
  await test.ask('validate', { key: 'nonsense' });
  await test.ask('trial', { plan: 'api', device: { id: 'device-one' } });
  await test.ask('x'.repeat(50), {});
  const text = await (await fetch(`${test.internalUrl}/metrics`)).text();
  for (const labels of [
    'action="activate",outcome="ok"',
    'action="activate",outcome="device_limit"',
    'action="validate",outcome="invalid_key"',
    'action="trial",outcome="no_trial"',
    'action="other",outcome="not_found"',
  ])
    expect(text).toContain(`tollgate_licensing_questions_total{${labels}} 1\n`);
});

it('alone it has a listener of its own for them', async () => {
  const config = { ...test.config, licensingPort: 0, licensingInternalPort: 0 };
  const { keystore } = test;
  const licensing = await startLicensing({ config, keystore, log: createLogger({ level: 'silent' }) });
  try {
    expect((await fetch(`${licensing.url}/licences/devices`)).status).toBe(401);
    expect((await fetch(`${licensing.url}/metrics`)).status).toBe(404);
    const text = await (await fetch(`${licensing.internalUrl}/metrics`)).text();
    expect(text).toContain('tollgate_licensing_questions_total{action="devices",outcome="missing_key"} 1\n');
    expect(text).toContain(
      'tollgate_licensing_request_seconds_count{route="/licences/devices",status="4xx"} 1\n',
    );
  } finally {
    await licensing.close();
  }
});
