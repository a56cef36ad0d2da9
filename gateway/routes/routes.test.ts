import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { POLICY_DEFAULTS, type RouteSpec, UPSTREAM_DEFAULTS } from './route-spec.ts';
import { Routes } from './routes.ts';

const open: Routes[] = [];
afterEach(async () => {
  for (const routes of open.splice(0)) await routes.destroy();
});

function route(path: string, more: Partial<Omit<RouteSpec, 'upstream'>> & { url?: string } = {}): RouteSpec {
  const { url = 'http://127.0.0.1:1', hosts = [], ...rest } = more;
  return {
    name: `${hosts.join('+')}${path}`,
    hosts,
    path,
    rewrite: null,
    upstream: { ...UPSTREAM_DEFAULTS, urls: [url] },
    policy: POLICY_DEFAULTS,
    ...rest,
  };
}

function routesOf(...specs: RouteSpec[]): Routes {
  const routes = new Routes(specs);
  open.push(routes);
  return routes;
}

function matched(routes: Routes, path: string, host = 'api.example.com'): string {
  const found = routes.match(host, path);
  return typeof found === 'string' ? found : found.name;
}

describe('the route of a path', () => {
  it('has the longest prefix that ends at a segment', () => {
    const routes = routesOf(route('/v1'), route('/v1/items/special'), route('/'), route('/v1/items'));
    for (const [path, name] of [
      ['/', '/'],
      ['/v1', '/v1'],
      ['/v1/', '/v1'],
      ['/v10', '/'],
      ['/v1/other/items', '/v1'],
      ['/v1/items', '/v1/items'],
      ['/v1/items/5', '/v1/items'],
      ['/v1/items/special', '/v1/items/special'],
      ['/v1/items/specials', '/v1/items'],
      ['/v1/items/special/a/b/c', '/v1/items/special'],
    ] as const) {
      expect(matched(routes, path), path).toBe(name);
    }
  });

  it('is none where none covers it', () => {
    const routes = routesOf(route('/v1'), route('/v2'));
    expect(matched(routes, '/')).toBe('none');
    expect(matched(routes, '/v3/items')).toBe('none');
    expect(matched(routesOf(), '/v3/../items')).toBe('none');
  });

  it('among hundreds is found as among few', () => {
    const routes = routesOf(...Array.from({ length: 500 }, (_, i) => route(`/service-${i}/v1`)));
    expect(matched(routes, '/service-499/v1/items')).toBe('/service-499/v1');
    expect(matched(routes, '/service-499/v2/items')).toBe('none');
  });

  it('whose only route takes everything is that one, however it is spelt', () => {
    const routes = routesOf(route('/'));
    for (const path of ['/a/../b', '//x/y', '/%2e%2e/', '/a%00b', '/%zz'])
      expect(matched(routes, path)).toBe('/');
  });

  it('may lead nowhere else: dot segments stay inside what the server’s address names', () => {
    const routes = routesOf(route('/', { url: 'http://127.0.0.1:1/base' }));
    expect(matched(routes, '/a/b')).toBe('/');
    for (const path of ['/..', '/a/../..', '/%2e%2E/a', '/..;x/a', '/a%2f..', '/a\\..\\b', '/%252e%252e/']) {
      expect(matched(routes, path), path).toBe('unclear_path');
    }
  });
});

describe('a path that servers read in different ways', () => {
  const specs = [route('/'), route('/docs'), route('/admin')];

  it.each([
    ['/%61dmin', '/admin'],
    ['/admin%2Ejson', '/'],
    ['/docs//a', '/docs'],
    ['/docs/./a', '/docs'],
    ['/docs/a%2Fb', '/docs'],
    ['/docs/a;x=1/b', '/docs'],
    ['/files/a%20b', '/'],
    ['/files/caf%C3%A9', '/'],
    ['/.well-known/x', '/'],
  ])('%s is %s, to all of them', (path, name) => {
    expect(matched(routesOf(...specs), path)).toBe(name);
  });

  it.each([
    '/Admin',
    '//admin',
    '//docs/admin',
    '/\\docs/admin',
    '/x//admin/..',
    '/docs/../admin',
    '/docs/%2e%2e/admin',
    '/docs/%252e%252e/admin',
    '/docs/..;/admin',
    '/docs/..%2fadmin',
    '/docs\\..\\admin',
    '/./admin',
    '/admin;x=1',
    '/;/admin',
    '/admin%2Fusers',
    '/admin%5Cusers',
    '/admin%3Fx',
    '/admin%23x',
    '/admin%00',
    '/admin%0a',
    '/%25%36%31dmin',
    '/%c0%ae%c0%ae/admin',
    '/%e0%80%ae%e0%80%ae/admin',
    '/%f0%80%80%ae%f0%80%80%ae/admin',
    '/%u0061dmin',
    '/admin%',
  ])('%s is refused', (path) => {
    expect(matched(routesOf(...specs), path)).toBe('unclear_path');
  });

  it('is refused where the part that is replaced is spelt in another way, or the rest is no clear path', () => {
    const routes = routesOf(route('/v1', { rewrite: '/' }));
    expect(matched(routes, '/v1')).toBe('/v1');
    expect(matched(routes, '/v1/a%2Fb//c')).toBe('/v1');
    for (const path of ['/%761/a', '/v1//host/admin', '/v1/\\host/admin']) {
      expect(matched(routes, path), path).toBe('unclear_path');
    }
  });
});

describe('the route of a host', () => {
  const specs = [
    route('/'),
    route('/shared'),
    route('/', { hosts: ['api.example.com'] }),
    route('/v1', { hosts: ['*.example.com'] }),
    route('/v1', { hosts: ['*.eu.example.com', 'example.com'] }),
  ];

  it.each([
    ['api.example.com', '/v1', 'api.example.com/'],
    ['API.Example.COM:8443', '/v1', 'api.example.com/'],
    ['api.example.com.', '/v1', 'api.example.com/'],
    ['www.example.com', '/v1/a', '*.example.com/v1'],
    ['a.b.example.com', '/v1', '*.example.com/v1'],
    ['a.eu.example.com', '/v1', '*.eu.example.com+example.com/v1'],
    ['eu.example.com', '/v1', '*.example.com/v1'],
    ['example.com', '/v1', '*.eu.example.com+example.com/v1'],
    ['example.com', '/shared', '/shared'],
    ['www.example.com', '/v2', '/'],
    ['example.org', '/v1', '/'],
    ['badexample.com', '/v1', '/'],
    ['[::1]:80', '/v1', '/'],
    ['', '/v1', '/'],
  ])('%s %s is %s: the most specific host that has one, then the longest prefix', (host, path, name) => {
    expect(matched(routesOf(...specs), path, host)).toBe(name);
  });

  it('for everything on one host does not care how the path is spelt', () => {
    expect(matched(routesOf(...specs), '/a/../b')).toBe('api.example.com/');
    expect(matched(routesOf(...specs), '/a/../b', 'example.org')).toBe('unclear_path');
  });
});

describe('any spelling of any path', () => {
  const routes = () =>
    routesOf(route('/'), route('/a'), route('/a/b'), route('/docs/open'), route('/v1', { rewrite: '/w' }));
  const segment = fc.constantFrom('a', 'b', 'c', 'docs', 'open', 'v1', 'x~y', 'a b', 'é', '');
  const encode = (character: string) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  const spelling = fc.constantFrom<(character: string) => string>(
    (c) => (/[\w~]/.test(c) ? c : encode(c)),
    (c) => (/[\w~]/.test(c) ? c : encode(c)),
    (c) => (/[\w~]/.test(c) ? c : encode(c)),
    encode,
    (c) => encode(encode(c)),
    (c) => encode(c).toUpperCase(),
    (c) => (/\w/.test(c) ? c.toUpperCase() : encode(c)),
  );
  const separator = fc.oneof(
    { weight: 6, arbitrary: fc.constant('/') },
    fc.constantFrom('//', '/./', '\\', '%2f', '%5C', '/.;x/', '/x/../', '/x/%2e%2e/', ';p=1/', '/%252F'),
  );
  const spelt = fc
    .array(fc.tuple(separator, segment), { minLength: 1, maxLength: 5 })
    .chain((parts) =>
      fc.tuple(
        fc.constant(parts),
        fc.array(spelling, { minLength: 40, maxLength: 40 }),
        fc.constantFrom('', '', ';v=1', '%3Fq', '%00', '/', '//'),
      ),
    )
    .map(([parts, spellings, end]) => {
      let at = 0;
      const spell = (text: string) =>
        [...text].map((c) => (spellings[at++ % 40] as typeof encode)(c)).join('');
      return `/${parts.map(([sep, text], i) => (i === 0 ? sep.slice(1) : sep) + spell(text)).join('')}${end}`;
    });

  /** What servers are known to make of a path, one after the other and in any combination. */
  const decode = (path: string) =>
    path.replace(/(?:%[0-9a-f]{2})/gi, (escaped) =>
      String.fromCharCode(Number.parseInt(escaped.slice(1), 16)),
    );
  const habits: ((path: string) => string)[] = [
    decode,
    (path) => path.replaceAll('\\', '/'),
    (path) => path.replace(/\/{2,}/g, '/'),
    (path) => path.replace(/;[^/]*/g, ''),
    (path) => path.split(/[?#\0]/, 1)[0] as string,
    (path) => path.toLowerCase(),
    (path) => new URL(`http://h${path.startsWith('/') ? path : `/${path}`}`).pathname,
    (path) => (URL.canParse(path, 'http://h') ? new URL(path, 'http://h').pathname : path),
  ];
  const server = fc.array(fc.constantFrom(...habits), { maxLength: 4 });

  it('is the route that it is to every server, or it is refused', () => {
    const table = routes();
    const unreserved = (path: string) =>
      path.replace(/%(?:2[de]|3\d|[46][1-9a-f]|[57][\da]|5f|7e)/gi, decode);
    const plainly = (read: string) => routeOfPlain(unreserved(read));
    const routeOfPlain = (path: string) =>
      ['/v1', '/docs/open', '/a/b', '/a'].find((p) => path === p || path.startsWith(`${p}/`)) ?? '/';
    let forwarded = 0;
    fc.assert(
      fc.property(spelt, server, (path, reads) => {
        const found = matched(table, path);
        if (found === 'unclear_path') return;
        forwarded++;
        const seen = reads.reduce((read, habit) => habit(read), path);
        expect(plainly(seen), `${JSON.stringify(path)} read as ${JSON.stringify(seen)}`).toBe(found);
      }),
      { numRuns: 20_000 },
    );
    expect(forwarded).toBeGreaterThan(500);
  });
});

describe('other routes are put into force', () => {
  it('and those described as before stay the same, with their servers', () => {
    const routes = routesOf(route('/a'), route('/b', { url: 'http://127.0.0.1:2' }));
    const [a, b] = routes.all;
    routes.replace([route('/b', { url: 'http://127.0.0.1:3' }), route('/a'), route('/c')]);
    const [newB, sameA, c] = routes.all;
    expect(sameA).toBe(a);
    expect(newB?.group).not.toBe(b?.group);
    expect(c?.group).toBe(a?.group);
    expect(matched(routes, '/c')).toBe('/c');
  });

  it('a route of which only the policy changed keeps its servers', () => {
    const routes = routesOf(route('/a'));
    const [before] = routes.all;
    routes.replace([route('/a', { policy: { ...POLICY_DEFAULTS, access: 'public' } })]);
    expect(routes.all[0]?.policy.access).toBe('public');
    expect(routes.all[0]?.group).toBe(before?.group);
  });
});
