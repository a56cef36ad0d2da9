import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type LicensingUnderTest, startLicensingUnderTest } from '../test/licences.ts';
import { eventually } from '../test/servers.ts';
import { startSmtp, type TestSmtp } from '../test/smtp.ts';

const DAY = 86_400_000;
const device = (id: string) => ({ id: `device-${id}`, name: id });

describe('a trial without a card', () => {
  let smtp: TestSmtp;
  let test: LicensingUnderTest;
  beforeAll(async () => {
    smtp = await startSmtp();
    test = await startLicensingUnderTest({
      SMTP_URL: smtp.url,
      MAIL_FROM: 'Acme <api@example.com>',
      PRODUCT_NAME: 'Acme',
    });
  });
  afterAll(async () => {
    await test.close();
    await smtp.close();
  });

  /** Asks for a trial and reads the code from the mail. */
  async function asked(email: string, on: string): Promise<{ trialId: string; code: string }> {
    const answer = await test.ask('trial', { plan: 'pro', email, device: device(on) });
    expect(answer).toMatchObject({
      status: 202,
      body: { status: 'verify_email', detail: `A code was sent to ${email}.` },
    });
    const mail = await eventually(() => {
      const found = smtp.mails.findLast(({ to }) => to.includes(email));
      expect(found?.subject).toBe('Your code for a trial of Acme');
      return found!;
    });
    expect(mail.text).toContain('a trial of the plan Pro');
    const code = /^ {2}([0-9A-Z]{8})$/m.exec(mail.text)?.[1];
    expect(code, mail.text).toBeDefined();
    expect(mail.html).toContain(code);
    return { trialId: answer.body.trial_id as string, code: code! };
  }

  it('begins with the code that came by e-mail; the key and its device work at once', async () => {
    const { trialId, code } = await asked('first@example.com', 'one');
    const begun = await test.ask('trial', { trial_id: trialId, code, device: device('one') });
    expect(begun).toMatchObject({
      status: 201,
      body: { licence: { plan: 'pro' }, devices: { used: 1, limit: 3 }, device: device('one') },
    });
    const { key, ends_at } = begun.body as { key: string; ends_at: string };
    const { key_id: keyId } = begun.body.licence as { key_id: string };
    expect(await test.keystore.listLicenceAttempts({ keyId, limit: 1 })).toMatchObject([
      { action: 'trial', deviceId: device('one').id, outcome: 'ok', address: '127.0.0.1' },
    ]);
    expect(Math.abs(Date.parse(ends_at) - Date.now() - 14 * DAY)).toBeLessThan(60_000);
    expect((await test.ask('refresh', { key, device_id: device('one').id })).status).toBe(200);
    expect(test.logLines.join('')).not.toContain(key);
    expect(test.logLines.join('')).not.toContain(code);

    const other = await asked('First+2@example.com', 'two');
    const again = await test.ask('trial', {
      trial_id: other.trialId,
      code: other.code,
      device: device('two'),
    });
    expect([again.status, again.body.code]).toEqual([409, 'trial_already_used']);
  });

  it('is refused where there is none, without an address, and with a wrong code', async () => {
    const ask = (body: object) => test.ask('trial', body);
    expect((await ask({ plan: 'team', email: 'a@example.com', device: device('three') })).body).toMatchObject(
      {
        status: 403,
        code: 'no_trial',
        detail: 'The plan Team has no trial.',
      },
    );
    expect((await ask({ plan: 'gold', email: 'a@example.com', device: device('three') })).body).toMatchObject(
      {
        code: 'unknown_plan',
        errors: [{ field: 'plan', message: 'must be one of: pro' }],
      },
    );
    expect((await ask({ plan: 'pro', device: device('three') })).body).toMatchObject({
      code: 'invalid_request',
      errors: [{ field: 'email', message: 'is required: a code is sent to it' }],
    });
    const { trialId } = await asked('third@example.com', 'three');
    const wrong = await ask({ trial_id: trialId, code: 'AAAA-AAAA', device: device('three') });
    expect([wrong.status, wrong.body.code]).toEqual([400, 'code_not_valid']);
    const unknown = await ask({
      trial_id: `tri_${'x'.repeat(20)}`,
      code: 'AAAAAAAA',
      device: device('three'),
    });
    expect([unknown.status, unknown.body.code]).toEqual([410, 'link_not_valid']);
  });

  it('sends no more than three codes an hour to one address', async () => {
    const ask = (n: number) =>
      test.ask('trial', { plan: 'pro', email: `Many+${n}@example.com`, device: device(`many${n}`) });
    for (const n of [1, 2, 3]) expect((await ask(n)).status).toBe(202);
    const refused = await ask(4);
    expect([refused.status, refused.body.code]).toEqual([429, 'too_many_requests']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  });
});

describe('trials of many people behind one address', () => {
  it('are 20 an hour, and the codes that they type in do not count as more', async () => {
    const smtp = await startSmtp();
    const test = await startLicensingUnderTest({ SMTP_URL: smtp.url, MAIL_FROM: 'api@example.com' });
    onTestFinished(async () => {
      await test.close();
      await smtp.close();
    });
    for (let n = 0; n < 20; n++) {
      const email = `person${n}@example.com`;
      const asked = await test.ask('trial', { plan: 'pro', email, device: device(`of-${n}`) });
      expect(asked.status).toBe(202);
      const { trial_id } = asked.body;
      const wrong = await test.ask('trial', { trial_id, code: 'AAAAAAAA', device: device(`of-${n}`) });
      expect(wrong.body.code).toBe('code_not_valid');
    }
    const more = { plan: 'pro', email: 'one-more@example.com', device: device('one-more') };
    expect((await test.ask('trial', more)).status).toBe(429);
  });
});

describe('a trial where no e-mail is sent', () => {
  let test: LicensingUnderTest;
  beforeAll(async () => {
    test = await startLicensingUnderTest();
  });
  afterAll(() => test.close());

  it('is had once by a device', async () => {
    const begun = await test.ask('trial', { plan: 'pro', device: device('only') });
    expect(begun).toMatchObject({ status: 201, body: { licence: { plan: 'pro' }, devices: { used: 1 } } });
    const lost = await test.ask('trial', { plan: 'pro', device: device('only') });
    expect(lost).toMatchObject({ status: 201, body: { ends_at: begun.body.ends_at } });
    expect(lost.body.key).not.toBe(begun.body.key);
    const first = await test.ask('validate', { key: begun.body.key as string });
    expect(first.body).toMatchObject({ valid: false, code: 'revoked_key' });
  });
});
