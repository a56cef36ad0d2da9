import { describe, expect, it } from 'vitest';
import { mintKey } from './keys.ts';
import { createLogger, redact } from './log.ts';

describe('redaction', () => {
  const key = mintKey('acme', 'live').plaintext;
  const secrets = [
    key,
    `sk_test_${'a1'.repeat(20)}`,
    `rk_live_${'b2'.repeat(20)}`,
    `whsec_${'c3'.repeat(16)}`,
    `cs_test_${'d4'.repeat(29)}`,
    `tgc_${'e5-_'.repeat(10)}xyz`,
    `${'r5'.repeat(10)}.${'s-_6'.repeat(10)}xyz`,
    `${'k7'.repeat(6)}.1790000000000.${'t-_8'.repeat(10)}xyz`,
  ];

  it.each(secrets)('removes %s from message, field, nested field, error and stack', (secret) => {
    const lines: string[] = [];
    const log = createLogger({ level: 'trace', destination: { write: (line) => void lines.push(line) } });
    log.info(`at /billing/success?session_id=${secret}&x=1`);
    log.info({ url: secret, deep: { er: [{ secret }] } }, 'fields');
    log.error(new Error(`Failed with ${secret}`, { cause: new Error(`because ${secret}`) }));
    expect(lines).toHaveLength(3);
    expect(lines.join('')).not.toContain(secret);
    expect(lines.join('')).toContain('[redacted]');
    for (const line of lines) expect(() => JSON.parse(line)).not.toThrow();
  });

  it.each(secrets)('removes %s whatever stands around it', (secret) => {
    for (const [before, after] of [
      ['\n', '\n'],
      ['%3D', '%26x'],
      ['%2F', ''],
      ['_', '_'],
      ['x', 'x'],
      ['key_', '-'],
      ['"', '"'],
      ['\u00e9', '\u00e9'],
    ]) {
      const text = `${before}${secret}${after}`;
      expect(redact(text), JSON.stringify([before, after])).not.toContain(secret);
      expect(redact(JSON.stringify({ text }))).not.toContain(secret);
    }
  });

  it("removes the login in a mail server's address, also where the password has an @", () => {
    expect(redact('smtps://user:pa:ss@wo%40rd@mail.example.com:465 refused')).toBe(
      'smtps://[redacted]@mail.example.com:465 refused',
    );
    expect(redact('smtp://mail.example.com:25')).toBe('smtp://mail.example.com:25');
  });

  it('removes bearer credentials of any form and keeps the rest readable', () => {
    expect(redact('Authorization: Bearer abc.def-ghi, next')).toBe('Authorization: Bearer [redacted] next');
    expect(redact('evt_1 for cus_9 sub_8 in_7 is fine')).toBe('evt_1 for cus_9 sub_8 in_7 is fine');
  });

  it('takes no longer for a long text than for many short ones', () => {
    const started = process.cpuUsage();
    redact('x'.repeat(1_000_000));
    // Going through the text again at each letter would take minutes.
    expect(process.cpuUsage(started).user).toBeLessThan(2_000_000);
  });
});
