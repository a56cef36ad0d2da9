import { generateKeyPairSync } from 'node:crypto';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ConfigError } from '../../shared/config.ts';
import { CLIENT } from '../../test/certificates.ts';
import { temporaryFolder } from '../../test/keystores.ts';
import { POLICY_DEFAULTS, type RouteSpec, UPSTREAM_DEFAULTS } from './route-spec.ts';
import { configuredRoutes } from './routes-file.ts';

let folder: string;
let file: string;
beforeEach(() => {
  folder = temporaryFolder();
  file = join(folder, 'routes.yaml');
});

function read(yaml: string, env: Record<string, string> = {}): RouteSpec[] {
  writeFileSync(file, yaml);
  return configuredRoutes({ routesFile: file, upstreamUrl: null, upstreamTimeoutMs: 60_000 }, env);
}

/** What is said of each mistake, without the name of the file. */
function mistakes(yaml: string, env: Record<string, string> = {}): string[] {
  try {
    read(yaml, env);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.problems.every(({ variable }) => variable === 'ROUTES_FILE')).toBe(true);
    expect(error.problems.every(({ message }) => message.startsWith(`${file}: `))).toBe(true);
    return error.problems.map(({ message }) => message.slice(file.length + 2));
  }
}

const one = (fields: string) => `routes: [{ path: /v1, upstreams: ['https://a.example'], ${fields} }]`;

describe('the routes file', () => {
  it('needs no more than where requests go', () => {
    expect(read('routes: [{ upstreams: [http://10.0.0.2:3000/] }]')).toEqual([
      {
        name: '/',
        hosts: [],
        path: '/',
        rewrite: null,
        upstream: { ...UPSTREAM_DEFAULTS, urls: ['http://10.0.0.2:3000'] },
        policy: POLICY_DEFAULTS,
      },
    ]);
  });

  it('says all that can be said of a route', () => {
    writeFileSync(join(folder, 'secret'), 'from-a-file\n');
    const [route] = read(`
routes:
  - name: v1
    hosts: [API.Example.com, '*.bücher.example', '[::1]']
    path: /v1/
    rewrite: /
    upstreams: ['https://10.0.0.2:3000', { url: 'https://10.0.0.3:3000/base/' }]
    connect_timeout_seconds: 0.5
    timeout_seconds: 30
    idle_timeout_seconds: 90
    queue_timeout_seconds: 0
    max_connections: 10
    http2: true
    upstream_secret: { header: X-Secret, value_file: secret }
    health: { path: /up, interval_seconds: 1 }
    circuit: { failures: 2 }
    retry_budget: 0
    features: [batch-requests]
    cost: { header: X-Cost }
    methods: [GET, POST]
    max_body: 10mb
    cors: { origins: ['https://app.example.com'], headers: [X-Mine], credentials: true }
    concurrency: 3
`);
    expect(route).toEqual({
      name: 'v1',
      hosts: ['api.example.com', '*.xn--bcher-kva.example', '[::1]'],
      path: '/v1',
      rewrite: '/',
      upstream: {
        urls: ['https://10.0.0.2:3000', 'https://10.0.0.3:3000/base'],
        connectTimeoutMs: 500,
        timeoutMs: 30_000,
        idleTimeoutMs: 90_000,
        queueTimeoutMs: 0,
        maxConnections: 10,
        http2: true,
        tls: null,
        secret: { header: 'X-Secret', value: 'from-a-file' },
        health: { path: '/up', intervalMs: 1000, timeoutMs: 2000, healthyAfter: 2, unhealthyAfter: 3 },
        circuit: { failures: 2, openMs: 5000 },
        retryBudget: 0,
      },
      policy: {
        access: 'key',
        features: ['batch-requests'],
        cost: { header: 'X-Cost', estimate: 1 },
        methods: ['GET', 'HEAD', 'POST'],
        maxBodyBytes: 10 * 1024 * 1024,
        cors: {
          origins: ['https://app.example.com'],
          methods: ['GET', 'HEAD', 'POST'],
          headers: ['X-Mine'],
          exposedHeaders: [],
          credentials: true,
          maxAgeSeconds: 600,
        },
        concurrency: 3,
      },
    });
  });

  it('has defaults for all routes, which a route replaces field by field and takes back with null', () => {
    const routes = read(`
defaults:
  upstreams: ['http://10.0.0.2:3000']
  features: [a]
  concurrency: 5
  methods: [POST]
  health: { path: /up }
routes:
  - path: /a
  - { path: /b, upstreams: ['http://10.0.0.3:3000'], features: [], methods: null, health: null }
  - { path: /c, access: public }
`);
    expect(routes.map(({ upstream }) => upstream.urls[0])).toEqual([
      'http://10.0.0.2:3000',
      'http://10.0.0.3:3000',
      'http://10.0.0.2:3000',
    ]);
    expect(routes.map(({ policy }) => policy.features)).toEqual([['a'], [], []]);
    expect(routes.map(({ policy }) => policy.methods)).toEqual([['POST'], null, ['POST']]);
    expect(routes.map(({ policy }) => policy.concurrency)).toEqual([5, 5, null]);
    expect(routes.map(({ upstream }) => upstream.health?.path ?? null)).toEqual(['/up', null, '/up']);
  });

  it('has defaults for TLS, which are for those routes that speak it', () => {
    const routes = read(`
defaults: { http2: true, tls: { server_name: server.test } }
routes:
  - { path: /a, upstreams: ['http://a'] }
  - { path: /b, upstreams: ['https://b'] }
`);
    expect(routes.map(({ upstream: { http2, tls } }) => [http2, tls?.serverName])).toEqual([
      [false, undefined],
      [true, 'server.test'],
    ]);
  });

  it('spells paths as clients do', () => {
    const paths = ['/caf\u00e9', '/%61b', '/a~b', '/.well-known', '/@scope'];
    const routes = read(
      `routes:\n${paths.map((path) => `  - { path: '${path}', upstreams: ['http://a'] }`).join('\n')}`,
    );
    expect(routes.map(({ path }) => path)).toEqual(['/caf%C3%A9', '/ab', '/a~b', '/.well-known', '/@scope']);
  });

  it.each([
    ['1024', 1024],
    ['0', 0],
    ['512kb', 524_288],
    ["'1 GB'", 1_073_741_824],
  ])('takes the size %s', (size, bytes) => {
    expect(read(one(`max_body: ${size}`))[0]?.policy.maxBodyBytes).toBe(bytes);
  });

  it('takes a secret from a variable', () => {
    const [route] = read(one('upstream_secret: { header: Authorization, value_env: UPSTREAM_TOKEN }'), {
      UPSTREAM_TOKEN: 'Bearer abc',
    });
    expect(route?.upstream.secret).toEqual({ header: 'Authorization', value: 'Bearer abc' });
  });

  it('takes certificates by path, relative to itself', () => {
    for (const name of ['ca.pem', 'client.pem', 'client.key']) {
      copyFileSync(new URL(`../../test/certificates/${name}`, import.meta.url), join(folder, name));
    }
    const [route] = read(
      one(
        'tls: { ca_file: ca.pem, cert_file: ./client.pem, key_file: client.key, server_name: server.test }',
      ),
    );
    expect(route?.upstream.tls).toMatchObject({ ...CLIENT, serverName: 'server.test', verify: true });
  });
});

describe('mistakes in the routes file', () => {
  it('are reported all at once, each with its route, its field and an example', () => {
    const yaml = `
deflaults: 3
defaults:
  timout_seconds: 5
routes:
  - path: /v1
    metods: [GET]
    cors: { origins: ['https://a.example/'], credential: true }
  - name: docs
    path: v2
    upstreams: ['ftp://x', 'http://u:p@h', { ur: x }]
    access: nobody
  - 5
`;
    expect(mistakes(yaml)).toEqual([
      'has no field "deflaults"; did you mean "defaults"?',
      'defaults: has no field "timout_seconds"; did you mean "timeout_seconds"?',
      'route 1 (/v1): cors.origins[0] is not an origin: scheme and host, without a slash at the end',
      'route 1 (/v1): cors has no field "credential"; did you mean "credentials"?',
      'route 1 (/v1): has no field "metods"; did you mean "methods"?',
      'route 2 (docs): path does not begin with a slash',
      'route 2 (docs): upstreams[0] is not an http:// or https:// address',
      'route 2 (docs): upstreams[1] has a user name, a query or a fragment; leave that out',
      'route 2 (docs): upstreams[2] is not an address',
      'route 2 (docs): access is neither key nor public',
      'route 3: is not a set of fields',
    ]);
    expect(() => read(yaml)).toThrow(
      /11 problems[\s\S]*ROUTES_FILE .*routes\.yaml: route 2 \(docs\): access is neither key nor public\n {4}for example: access: public/,
    );
  });

  it.each([
    ['', /has no fields/],
    ['routes: []', /routes is not a list with at least one route/],
    ['routes:\n  - path: /v1\n   x: 1', /cannot be read: .* at line 3/],
    ['routes:\n  - path: /v1\n    path: /v2', /cannot be read: Map keys must be unique at line 3/],
    ['routes: [{ path: /v1 }]', /route 1 \(\/v1\): upstreams is missing/],
    [one('zzzzzzzzzzzz: 1'), /has no field "zzzzzzzzzzzz"; there are: name, hosts, path/],
    [one('access: public, cost: 3'), /cost needs a key, and this route is public/],
    [one('access: public, features: [a]'), /features needs a key/],
    [one("cors: { origins: '*', credentials: true }"), /cors.credentials cannot be had by every origin/],
    [one("cors: { origins: ['null'] }"), /cors\.origins/],
    [one('methods: [get]'), /methods\[0\] is not a method in upper case/],
    [one('methods: [CONNECT]'), /methods\[0\] cannot be CONNECT/],
    [one('max_body: 10 potatoes'), /max_body is not a size/],
    [one('timeout_seconds: 0'), /timeout_seconds is less than 0.1 seconds/],
    [
      one('upstream_secret: { header: Host, value: x }'),
      /upstream_secret.header is a header that has a meaning/,
    ],
    [
      one('upstream_secret: { header: X_API_Key, value: x }'),
      /upstream_secret.header is a header that has a meaning/,
    ],
    [one('upstream_secret: { header: X-S }'), /upstream_secret has to have one of/],
    [one('upstream_secret: { header: X-S, value: x, value_env: Y }'), /upstream_secret has to have one of/],
    [one('upstream_secret: { header: X-S, value_env: NOPE }'), /names the variable NOPE, which is not set/],
    [
      one('upstream_secret: { header: X-S, value_file: nope }'),
      /value_file names .*nope, which does not exist/,
    ],
    [one('tls: { cert_file: a.pem }'), /tls has one of cert_file and key_file/],
    [one('tls: { ca_file: nope.pem }'), /tls\.ca_file names .*nope\.pem, which does not exist/],
    [one('tls: { ca_file: routes.yaml }'), /tls\.ca_file is not a file with certificates in PEM form/],
    ["routes: [{ upstreams: ['http://a'], tls: {} }]", /tls takes https/],
    ["routes: [{ upstreams: ['http://a'], http2: true }]", /http2 takes https/],
    ["routes: [{ upstreams: ['http://a', 'http://a/'] }]", /upstreams names an address twice/],
  ])('%s', (yaml, message) => {
    expect(mistakes(yaml)).toEqual([expect.stringMatching(message)]);
  });

  it.each([
    '/a//b',
    '/a/../b',
    '/a/.',
    '/a;b',
    '/a?b',
    '/a%2fb',
    '/a%25b',
    '/a*',
    '/{id}',
    '/a b',
    '/%zz',
    '/a%00',
  ])('the path %s is no path of a route', (path) => {
    expect(mistakes(one('').replace('path: /v1', `path: '${path}'`))).toEqual([
      expect.stringMatching(/: path has something that no path of a route can have/),
    ]);
  });

  it.each(['a:80', 'http://a', 'a/b', '*', 'a.*.b', '', '-a.example'])('the host %s is none', (host) => {
    expect(mistakes(one(`hosts: ['${host}']`))).toEqual([
      expect.stringMatching(/hosts\[0\] is not a host name/),
    ]);
  });

  it('two routes for the same host and path, also in another case', () => {
    const upstreams = "upstreams: ['http://a']";
    expect(
      mistakes(`routes:
  - { name: one, hosts: [a.example, b.example], path: /v1, ${upstreams} }
  - { name: two, hosts: [c.example, B.example], path: /V1, ${upstreams} }
  - { name: three, path: /v1, ${upstreams} }
  - { name: three, path: /v2, ${upstreams} }
`),
    ).toEqual([
      expect.stringMatching(/^route 2 \(two\): path is that of the route "one" too: b\.example\/v1/),
      'route 4 (three): name is that of another route too: three',
    ]);
  });

  it('a key that is not that of the certificate', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    writeFileSync(join(folder, 'client.pem'), CLIENT.cert);
    writeFileSync(join(folder, 'client.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    expect(mistakes(one('tls: { cert_file: client.pem, key_file: client.key }'))).toEqual([
      'route 1 (/v1): tls.key_file is not the key of the certificate in cert_file',
    ]);
    writeFileSync(join(folder, 'client.key'), 'no key');
    expect(mistakes(one('tls: { cert_file: client.pem, key_file: client.key }'))).toEqual([
      'route 1 (/v1): tls.key_file is not a private key in PEM form without a passphrase',
    ]);
  });

  it('never show a secret', () => {
    const yaml = one('upstream_secret: { header: X-S, value: "hunter2\\n" }');
    expect(mistakes(yaml)).toEqual([
      expect.stringMatching(/upstream_secret.value cannot be sent in a header/),
    ]);
    expect(() => read(yaml)).not.toThrow(/hunter2/);
  });

  it.each([
    ['an alias', '*hunter2hunter2'],
    ['a tag', '!hunter2hunter2'],
    ['a tag of a kind', '!hunter!hunter2'],
    ['the end of it is a field', 'a,hunter2hunter2'],
    ['more stands after it', '"a"hunter2hunter2'],
  ])('nor one that is not quoted and means something in YAML: %s', (_what, value) => {
    const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
    const found = mistakes(one(`upstream_secret: { header: X-S, value: ${value} }`));
    expect(found).not.toEqual([]);
    expect(found.join()).not.toContain('hunter2');
    expect(warned).not.toHaveBeenCalled();
    warned.mockRestore();
  });
});

describe('without a routes file', () => {
  it('there is one route, to UPSTREAM_URL', () => {
    const [route, ...others] = configuredRoutes(
      { routesFile: null, upstreamUrl: 'http://10.0.0.2', upstreamTimeoutMs: 1000 },
      {},
    );
    expect(others).toEqual([]);
    expect(route).toMatchObject({ path: '/', upstream: { urls: ['http://10.0.0.2'], timeoutMs: 1000 } });
  });
});
