import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Routes } from '../gateway/routes/routes.ts';
import { configuredRoutes } from '../gateway/routes/routes-file.ts';
import { defaultsSchema, EXAMPLES, routeSchema } from '../gateway/routes/routes-schema.ts';
import { temporaryFolder } from './keystores.ts';

const document = readFileSync('docs/routes.md', 'utf8');
const blocks = [...document.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, yaml]) => yaml as string);

let folder: string;
const open: Routes[] = [];
beforeEach(() => {
  folder = temporaryFolder();
  mkdirSync(join(folder, 'certs'));
  mkdirSync(join(folder, 'secrets'));
  for (const [from, to] of [
    ['ca.pem', 'internal-ca.pem'],
    ['client.pem', 'gateway.pem'],
    ['client.key', 'gateway.key'],
  ] as const) {
    copyFileSync(`test/certificates/${from}`, join(folder, 'certs', to));
  }
  writeFileSync(join(folder, 'secrets', 'upstream'), 'secret');
});
afterEach(async () => {
  for (const routes of open.splice(0)) await routes.destroy();
});

function read(yaml: string) {
  const file = join(folder, 'routes.yaml');
  writeFileSync(file, yaml);
  return configuredRoutes({ routesFile: file, upstreamUrl: null, upstreamTimeoutMs: 60_000 }, {});
}

describe('docs/routes.md', () => {
  it.each(blocks.map((yaml, i) => [i + 1, yaml] as const))('example %i is a good file', (_i, yaml) => {
    expect(read(yaml).length).toBeGreaterThan(0);
  });

  it('has recipes beside the complete example', () => {
    expect(blocks.length).toBeGreaterThan(5);
  });

  it('the complete example does what it says', () => {
    const routes = new Routes(read(blocks[0] as string));
    open.push(routes);
    const named = (host: string, path: string) => {
      const route = routes.match(host, path);
      return typeof route === 'string' ? route : route.name;
    };
    expect(named('api.example.com', '/v1/items')).toBe('api');
    expect(named('api.example.com', '/docs/start')).toBe('docs');
    expect(named('api.example.com', '/v1/batch')).toBe('batch');
    expect(named('images.example.com', '/v1/images/7')).toBe('images');
    expect(named('images.example.com', '/v1/items')).toBe('none');
    for (const path of ['/docs/..%2fadmin', '//docs/v1/batch', '/v1/batch;x', '/V1/batch', '/v1/%2562atch']) {
      expect(named('api.example.com', path), path).toBe('unclear_path');
    }
    for (const path of ['/v1/files/a%2Fb', '/v1//items', '/v1/items;v=2']) {
      expect(named('api.example.com', path), path).toBe('api');
    }
  });

  it.each(Object.keys(routeSchema.shape))('explains %s', (field) => {
    expect(document).toContain(`\`${field}\``);
  });

  it('names the fields that defaults may not have', () => {
    const fields = Object.keys(routeSchema.shape).filter((field) => !(field in defaultsSchema.shape));
    expect(fields).toEqual(['name', 'hosts', 'path']);
    expect(document).toContain('every field but `name`, `hosts` and `path`');
  });
});

it.each(Object.entries(EXAMPLES))(
  'the example shown beside a mistake in %s is right itself',
  (field, example) => {
    for (const file of ['ca.pem', 'client.pem'])
      copyFileSync(`test/certificates/${file}`, join(folder, file));
    copyFileSync('test/certificates/client.key', join(folder, 'client-key.pem'));
    for (const each of example.split(', or ')) {
      const yaml = each.replace('/run/secrets/upstream', 'secrets/upstream');
      if (field === 'routes') expect(read(yaml)).toHaveLength(1);
      else {
        const upstreams = field === 'upstreams' ? '' : '\n    upstreams: [https://a.example]';
        expect(read(`routes:\n  - ${yaml}${upstreams}`)).toHaveLength(1);
      }
    }
  },
);
