import { afterEach, expect, it } from 'vitest';
import { closeAll, sendRaw, startTestGateway } from '../../test/gateways.ts';

afterEach(closeAll);

const GOOD = 'GET /health HTTP/1.1\r\nHost: h\r\n\r\n';

it.each([
  ['a version that is not spoken', 'GET / HTTP/9.9\r\nHost: h\r\n\r\n', 505, 'version_not_supported'],
  ['no version', 'GET / HTTP/x\r\nHost: h\r\n\r\n', 400, 'invalid_request'],
  ['a target beyond all bounds', `GET /${'x'.repeat(40_000)} HTTP/1.1\r\n\r\n`, 431, 'headers_too_large'],
  [
    'headers beyond all bounds',
    `GET / HTTP/1.1\r\nX: ${'x'.repeat(40_000)}\r\n\r\n`,
    431,
    'headers_too_large',
  ],
])(
  '%s is told alike, whether it comes first or behind a good request',
  async (_name, bytes, status, code) => {
    const gateway = await startTestGateway();
    for (const before of ['', GOOD, `${GOOD}${GOOD}`]) {
      const received = await sendRaw(gateway.port, before + bytes);
      const answers = received.split(/(?=HTTP\/1\.1 \d)/);
      expect(answers).toHaveLength(before.length / GOOD.length + 1);
      expect(answers.at(-1)).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [\\s\\S]*"code":"${code}"`));
    }
  },
);
