import { createServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { CA, CLIENT, SERVER } from '../../test/certificates.ts';
import { closeAll, closeLater } from '../../test/gateways.ts';
import { eventually, gatewayBefore } from '../../test/servers.ts';
import type { TlsSpec } from '../routes/route-spec.ts';

afterEach(closeAll);

const TLS: TlsSpec = { ca: CA, cert: null, key: null, serverName: null, verify: true };

/** A server that says how it was spoken to. */
async function tlsServer(options: ServerOptions = {}) {
  const server = createServer({ ...SERVER, ...options }, (req, res) => {
    const socket = req.socket as TLSSocket & { servername: string | false };
    const { CN = null } = (socket.getPeerCertificate().subject ?? {}) as { CN?: string };
    res.end(
      JSON.stringify({
        name: socket.servername,
        protocol: socket.getProtocol(),
        client: CN,
        host: req.headers.host,
        path: req.url,
      }),
    );
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closeLater({
    close: async () => {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    },
  });
  return (server.address() as AddressInfo).port;
}

describe('a server behind TLS', () => {
  it('is reached when its certificate is signed by the authority that the route names', async () => {
    const port = await tlsServer();
    const { get } = await gatewayBefore([`https://localhost:${port}`], { tls: TLS });
    const response = await get('/x?y');
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({
      name: 'localhost',
      protocol: 'TLSv1.3',
      client: null,
      host: `localhost:${port}`,
      path: '/x?y',
    });
  });

  it('is asked for by another name where the route says so', async () => {
    const port = await tlsServer();
    const { get } = await gatewayBefore([`https://127.0.0.1:${port}`], {
      tls: { ...TLS, serverName: 'server.test' },
    });
    expect(await (await get()).json()).toMatchObject({ name: 'server.test' });
  });

  it.each<[string, TlsSpec | null, ServerOptions, RegExp]>([
    ['whose signer is unknown', null, {}, /UNABLE_TO_VERIFY/],
    ['that is for another name', { ...TLS, serverName: 'other.test' }, {}, /ALTNAME_INVALID/],
    [
      'and speaks only an old TLS',
      TLS,
      { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      /PROTOCOL/,
    ],
  ])('%s is not believed: 502, and nothing is sent', async (_what, tls, options, why) => {
    const port = await tlsServer(options);
    const { gateway, get } = await gatewayBefore([`https://localhost:${port}`], { tls });
    const response = await get();
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ code: 'upstream_unreachable' });
    // What is wrong is in the log for the operator, and not in the answer.
    expect(gateway.lines.join('')).toMatch(why);
  });

  it('is believed without verification where the route says so', async () => {
    const port = await tlsServer();
    const { get } = await gatewayBefore([`https://localhost:${port}`], {
      tls: { ...TLS, ca: null, verify: false },
    });
    expect((await get()).status).toBe(200);
  });

  it('that wants to know its clients is shown the route’s certificate', async () => {
    const port = await tlsServer({ requestCert: true, rejectUnauthorized: true, ca: CA });
    const url = `https://localhost:${port}`;
    const known = await gatewayBefore([url], { tls: { ...TLS, ...CLIENT } });
    expect(await (await known.get()).json()).toMatchObject({ client: 'client.test' });
    const without = await gatewayBefore([url], { tls: TLS });
    expect((await without.get()).status).toBe(502);
  });

  it('is checked with the same settings', async () => {
    const port = await tlsServer({ requestCert: true, rejectUnauthorized: true, ca: CA });
    const health = { path: '/', intervalMs: 50, timeoutMs: 10_000, healthyAfter: 1, unhealthyAfter: 1 };
    const well = await gatewayBefore([`https://localhost:${port}`], { tls: { ...TLS, ...CLIENT }, health });
    const unknown = await gatewayBefore([`https://localhost:${port}`], { tls: TLS, health });
    await eventually(() => expect(unknown.gateway.lines.join('')).toContain('"event":"unhealthy"'));
    expect(well.gateway.lines.join('')).not.toContain('unhealthy');
    expect((await well.get()).status).toBe(200);
  });
});
