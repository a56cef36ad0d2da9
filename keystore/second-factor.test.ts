import { TOTP } from 'otpauth';
import { afterEach, describe, expect, it } from 'vitest';
import { closeKeystores, keystore } from '../test/keystore-fixtures.ts';
import { newKeystoreUrl } from '../test/keystores.ts';
import { rawQuery } from '../test/raw-sql.ts';

afterEach(closeKeystores);

/** The secret of RFC 6238, appendix B, whose codes of 8 digits it lists; an app shows the last 6. */
const SECRET = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
const CODES: [seconds: number, code: string][] = [
  [59, '287082'],
  [1_111_111_109, '081804'],
  [1_111_111_111, '050471'],
  [1_234_567_890, '005924'],
  [2_000_000_000, '279037'],
  [20_000_000_000, '353130'],
];
const STEP_MS = 30_000;
const PASSWORD = 'correct horse battery';
const by = { actor: 'console:ada', address: '192.0.2.1' };
const codeAt = (timestamp: number) => new TOTP({ secret: SECRET }).generate({ timestamp });

/** A keystore with the user `ada`, and a clock that the test moves. */
async function withAda({ setUp = true, url = newKeystoreUrl() } = {}) {
  const clock = { now: Date.UTC(2026, 10, 29) };
  const open = () => keystore({ url, now: () => clock.now });
  const store = await open();
  await store.createConsoleUser({ name: 'ada', password: PASSWORD, actor: 'operator:t' });
  const begin = (code: string) => store.setUpSecondFactor({ name: 'ada', secret: SECRET, code, ...by });
  if (setUp) expect(await begin(codeAt(clock.now))).toBe('set_up');
  /** Signs in with a code. */
  const spend = async (code: string, at = store) => {
    const right = await at.checkConsolePassword({ name: 'ada', password: PASSWORD });
    const proof = { passwordHash: right?.passwordHash ?? '', code };
    const started = await at.startConsoleSession({ name: 'ada', ...proof, instead: undefined, ...by });
    return typeof started === 'string' ? started : 'right';
  };
  return { store, clock, url, open, begin, spend };
}

describe('a second factor', () => {
  it('has the codes that RFC 6238 lists, with blanks in them or not', async () => {
    const { clock, begin, spend } = await withAda({ setUp: false });
    clock.now = 1000;
    expect(await begin(codeAt(1000))).toBe('set_up');
    for (const [seconds, code] of CODES) {
      clock.now = seconds * 1000;
      expect(await spend(`${code.slice(0, 3)} ${code.slice(3)}`), String(seconds)).toBe('right');
    }
  });

  it('is not asked for before it is set up, which takes a code of it', async () => {
    const { store, clock, begin, spend } = await withAda({ setUp: false });
    expect(await spend('')).toBe('right');
    expect((await store.listConsoleUsers())[0]?.secondFactor).toBe(false);
    for (const wrong of ['', '12345', 'abcdef', codeAt(clock.now + 5 * STEP_MS)])
      expect(await begin(wrong), wrong).toBe('wrong_code');
    expect(await spend('')).toBe('right');
    expect(await begin(codeAt(clock.now))).toBe('set_up');
    expect((await store.listConsoleUsers())[0]?.secondFactor).toBe(true);
    // Else whoever has the session could put a secret of their own in its place.
    expect(await begin(codeAt(clock.now + STEP_MS))).toBe('already_set_up');
    expect(
      await store.setUpSecondFactor({ name: 'eve', secret: SECRET, code: codeAt(clock.now), ...by }),
    ).toBe('not_found');
  });

  it('signs out whoever came in without it', async () => {
    const { store, clock, begin } = await withAda({ setUp: false });
    const right = await store.checkConsolePassword({ name: 'ada', password: PASSWORD });
    const proof = { passwordHash: right?.passwordHash ?? '', code: '', instead: undefined };
    const started = await store.startConsoleSession({ name: 'ada', ...proof, ...by });
    const { token } = started as { token: string };
    expect(await store.findConsoleSession(token)).toBe('ada');
    expect(await begin(codeAt(clock.now))).toBe('set_up');
    expect(await store.findConsoleSession(token)).toBeUndefined();
    // Also whose password was found right just before.
    expect(await store.startConsoleSession({ name: 'ada', ...proof, ...by })).toBe('wrong_code');
  });

  it('is removed by a code of it, or by whoever may do without', async () => {
    const { store, clock } = await withAda();
    const remove = (code: string | null) => store.removeSecondFactor({ name: 'ada', code, ...by });
    expect(await remove(codeAt(clock.now))).toBe('wrong_code');
    expect(await remove('')).toBe('wrong_code');
    expect(await remove(codeAt(clock.now + STEP_MS))).toBe('removed');
    expect(await remove(codeAt(clock.now))).toBe('none');
  });

  it('takes a code of a clock one step off, and of none further', async () => {
    const { clock, spend } = await withAda();
    clock.now += 10 * STEP_MS;
    for (const steps of [-2, 2, 3, 100])
      expect(await spend(codeAt(clock.now + steps * STEP_MS)), String(steps)).toBe('wrong_code');
    for (const steps of [-1, 0, 1])
      expect(await spend(codeAt(clock.now + steps * STEP_MS)), String(steps)).toBe('right');
  });

  it('takes each code once, the one it was set up by too, and then none before it', async () => {
    const { clock, spend } = await withAda();
    expect(await spend(codeAt(clock.now))).toBe('wrong_code');
    clock.now += 3 * STEP_MS;
    const code = codeAt(clock.now);
    expect(await spend(code)).toBe('right');
    expect(await spend(code)).toBe('wrong_code');
    expect(await spend(codeAt(clock.now - STEP_MS))).toBe('wrong_code');
    expect(await spend(codeAt(clock.now + STEP_MS))).toBe('right');
  });

  it('of many tries with one code at once, in two processes, one is right', async () => {
    const { store, clock, open, spend } = await withAda();
    clock.now += STEP_MS;
    const other = await open();
    const code = codeAt(clock.now);
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, (_, i) => spend(code, i % 2 ? store : other)),
    );
    expect(outcomes.filter((outcome) => outcome === 'right')).toHaveLength(1);
  });

  it('is kept sealed; set up and removed, each with who and from where', async () => {
    const { store, url, spend } = await withAda();
    const [row] = await rawQuery(url, 'select totp_sealed from console_users');
    const sealed = Buffer.from((row as { totp_sealed: Uint8Array }).totp_sealed);
    expect(sealed.length).toBeGreaterThan(32);
    expect(sealed.includes(SECRET)).toBe(false);
    expect(await store.removeSecondFactor({ name: 'ada', code: null, actor: 'operator:t' })).toBe('removed');
    expect(await store.removeSecondFactor({ name: 'ada', code: null, actor: 'operator:t' })).toBe('none');
    expect(await store.removeSecondFactor({ name: 'eve', code: null, actor: 'operator:t' })).toBe(
      'not_found',
    );
    expect(await spend('')).toBe('right');
    const audit = await rawQuery(
      url,
      `select actor, address, action, details from audit where action like '%second_factor%' order by seq`,
    );
    expect(audit).toEqual([
      { ...by, action: 'console_user.second_factor_set_up', details: '{"user":"ada"}' },
      {
        actor: 'operator:t',
        address: null,
        action: 'console_user.second_factor_removed',
        details: '{"user":"ada"}',
      },
    ]);
  });
});
