import { connect } from 'node:net';
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

it('a version that is not spoken is told alike, however its line is cut', async () => {
  const gateway = await startTestGateway();
  const line = 'GET / HTTP/9.9\r\n';
  for (let cut = 1; cut < line.length; cut++) {
    const socket = connect({ port: gateway.port, host: '127.0.0.1', noDelay: true });
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk;
    });
    socket.write(line.slice(0, cut));
    await new Promise((resolve) => setImmediate(resolve));
    socket.write(line.slice(cut));
    await new Promise((resolve) => socket.once('close', resolve));
    expect(received).toMatch(/^HTTP\/1\.1 505 /);
  }
});
