import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { ConfigError } from '../../shared/config.ts';
import { temporaryFolder } from '../../test/keystores.ts';
import { readPath } from './path-readings.ts';
import { POLICY_DEFAULTS, UPSTREAM_DEFAULTS } from './route-spec.ts';
import { Routes } from './routes.ts';
import { configuredRoutes } from './routes-file.ts';

vi.mock('./path-readings.ts', { spy: true });

const numbers = (count: number) => Array.from({ length: count }, (_, i) => i);

function read(routes: string[]) {
  const routesFile = join(temporaryFolder(), 'routes.yaml');
  writeFileSync(routesFile, `defaults: { upstreams: ['http://a'] }\nroutes:\n${routes.join('\n')}\n`);
  return configuredRoutes({ routesFile, upstreamUrl: null, upstreamTimeoutMs: 60_000 }, {});
}

describe('ten times as many routes', () => {
  it('take ten times as many looks at their paths to be read and checked', () => {
    const looks = (count: number) => {
      vi.mocked(readPath).mockClear();
      expect(read(numbers(count).map((i) => `  - { path: /v${i} }`))).toHaveLength(count);
      return vi.mocked(readPath).mock.calls.length;
    };
    expect(looks(500)).toBe(10 * looks(50));
  });

  it('take ten times as many looks at their hosts to be put into force', async () => {
    const looks = async (count: number) => {
      let looked = 0;
      const specs = numbers(count).map((i) => ({
        name: `${i}`,
        path: '/',
        rewrite: null,
        upstream: { ...UPSTREAM_DEFAULTS, urls: ['http://127.0.0.1:1'] },
        policy: POLICY_DEFAULTS,
        hosts: new Proxy([`h${i}.example.com`, `*.w${i}.example.com`], {
          get(hosts, name, self) {
            looked++;
            return Reflect.get(hosts, name, self);
          },
        }),
      }));
      const routes = new Routes(specs);
      await routes.destroy();
      return looked;
    };
    expect(await looks(500)).toBe(10 * (await looks(50)));
  });
});

it('an address or a name that others have, too, is told once for each of the others', () => {
  let problems: (string | undefined)[] = [];
  try {
    read([
      '  - { name: one, hosts: [a.example, b.example], path: /v1 }',
      '  - { name: two, hosts: [c.example], path: /v1 }',
      '  - { name: three, hosts: [b.example, c.example, a.example], path: /v1 }',
      '  - { name: one, hosts: [a.example], path: /V1 }',
      '  - { name: two, hosts: [a.example], path: /v1 }',
    ]);
  } catch (error) {
    problems = (error as ConfigError).problems.map(
      ({ message }) => /routes\.yaml: (.*?)(?: \(upper|$)/.exec(message)?.[1],
    );
  }
  expect(problems).toEqual([
    'route 3 (three): path is that of the route "one" too: b.example/v1',
    'route 3 (three): path is that of the route "two" too: c.example/v1',
    'route 4 (one): path is that of the route "one" too: a.example/v1',
    'route 5 (two): path is that of the route "one" too: a.example/v1',
    'route 5 (two): name is that of another route too: two',
  ]);
});
