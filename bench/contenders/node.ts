import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port.ts';
import { startServer } from '../processes.ts';
import { type Contender, FOLDER, type Setup } from './contender.ts';

export const fastify: Contender = {
  name: 'fastify + http-proxy + rate-limit',
  works: true,
  madeOf: () => packages('fastify', '@fastify/http-proxy', '@fastify/rate-limit'),
  missing: missingPackages,
  start: (setup) => startScript('fastify.js', `http://${setup.upstream}`, setup),
};

export const express: Contender = {
  name: 'express + http-proxy-middleware 4 + rate-limiter-flexible',
  works: true,
  madeOf: () => packages('express', 'http-proxy-middleware', 'rate-limiter-flexible'),
  missing: missingPackages,
  start: (setup) => startScript('express.js', `http://${setup.upstream}`, setup, 'http-proxy-middleware'),
};

/** Version 3 has another proxy inside (http-proxy), which opens a connection to the upstream for each request. */
export const expressWithVersion3: Contender = {
  name: 'express + http-proxy-middleware 3 + rate-limiter-flexible',
  works: true,
  madeOf: () => packages('express', 'http-proxy-middleware-3', 'rate-limiter-flexible'),
  missing: missingPackages,
  start: (setup) => startScript('express.js', `http://${setup.upstream}`, setup, 'http-proxy-middleware-3'),
};

export const tcpPassThrough: Contender = {
  name: "Node's limit: TCP pass-through, no work",
  works: false,
  madeOf: () => `node:net of Node ${process.version}`,
  missing: () => null,
  start: (setup) => startScript('tcp-pass-through.js', setup.upstream, setup),
};

export const undiciPassThrough: Contender = {
  name: "Node's limit: node:http + undici dispatch, no work",
  works: false,
  madeOf() {
    const { version } = createRequire(join(FOLDER, '..'))('undici/package.json') as { version: string };
    return `node:http of Node ${process.version}, undici ${version}`;
  },
  missing: () => null,
  start: (setup) => startScript('undici-pass-through.js', setup.upstream, setup),
};

async function startScript(script: string, upstream: string, setup: Setup, ...more: string[]) {
  const { keys, perKey, core, started } = setup;
  const port = await freePort();
  const args = [String(port), upstream, keys.pairFile, String(perKey), ...more];
  const child = await startServer(
    // Version 3 of http-proxy-middleware would complain of Node on the terminal.
    ['node', '--no-deprecation', join(FOLDER, script), ...args],
    port,
    core,
    started,
  );
  return { url: `http://127.0.0.1:${port}`, processes: [child] };
}

function missingPackages(): string | null {
  return existsSync(join(FOLDER, 'node_modules', 'fastify'))
    ? null
    : 'its packages are not installed: npm ci --prefix bench/contenders';
}

function packages(...names: string[]): string {
  const versions = names.map((name) => {
    const file = join(FOLDER, 'node_modules', name, 'package.json');
    const { name: ownName, version } = JSON.parse(readFileSync(file, 'utf8')) as {
      name: string;
      version: string;
    };
    return `${ownName} ${version}`;
  });
  return `${versions.join(', ')} on Node ${process.version}`;
}
