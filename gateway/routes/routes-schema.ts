import { domainToASCII } from 'node:url';
import { z } from 'zod';
import { readPath } from './path-readings.ts';

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const SENDABLE = /^[!-~](?:[ -~]*[!-~])?$/;
const HOST_NAME =
  /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const IPV6 = /^\[[0-9a-f:.]+\]$/;
const MAX_SECONDS = 86_400;
const UNITS = { b: 1, kb: 1024, mb: 1024 ** 2, gb: 1024 ** 3 } as const;

/** Headers that are the connection's, or ours to set. */
const NOT_A_SECRETS_NAME =
  /^(?:host|connection|keep-alive|content-length|transfer-encoding|upgrade|te|trailer|expect|via|x-request-id|x-api-key|(?:x-(?:consumer|credential|forwarded)-.*))$/i;

const seconds = (minimum: number) =>
  z
    .number('is not a number of seconds')
    .min(minimum, `is less than ${minimum} seconds`)
    .max(MAX_SECONDS, 'is longer than a day')
    .transform((value) => Math.round(value * 1000));
const count = (minimum: number, maximum: number) =>
  z
    .int('is not a whole number')
    .min(minimum, `is less than ${minimum}`)
    .max(maximum, `is more than ${maximum}`);
const token = z.string('is not a text').regex(TOKEN, 'is not the name of a header');
const text = z.string('is not a text').min(1, 'is empty');

/** What no segment of a route's path may have, spelt in any way: servers read these in different ways. */
const UNCLEAR = /[\s?#;\\"<>^`{|}*]|\/\/|\/\.\.?(?:\/|$)|%(?:25|2f|5c|3b|3f|23)|%(?![0-9a-f]{2})/i;

const path = z
  .string('is not a path')
  .startsWith('/', 'does not begin with a slash')
  .refine(
    (value) => !UNCLEAR.test(value) && (!value.startsWith('/') || readPath(encoded(value)) !== null),
    'has something that no path of a route can have: patterns, queries, parameters, empty or dot segments, encoded slashes',
  )
  .transform((value) => encoded(value.length > 1 ? value.replace(/\/$/, '') : value));

const host = z
  .string('is not a host name')
  .regex(/^(?:[^\s/?#@:\\]+|\[.+\])$/, 'is not a host name, with or without *. before it, and without port')
  .transform((value) => {
    const lower = value.toLowerCase().replace(/\.$/, '');
    const wildcard = lower.startsWith('*.') ? '*.' : '';
    return IPV6.test(lower) ? lower : wildcard + domainToASCII(lower.slice(wildcard.length));
  })
  .refine(
    (value) => IPV6.test(value) || HOST_NAME.test(value),
    'is not a host name, with or without *. before it, and without port',
  );

const url = z
  .string('is not an address')
  .refine(
    (value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol),
    'is not an http:// or https:// address',
  )
  .refine((value) => {
    if (!URL.canParse(value)) return true;
    const { username, password, search, hash } = new URL(value);
    return `${username}${password}${search}${hash}` === '';
  }, 'has a user name, a query or a fragment; leave that out')
  .transform((value) => value.replace(/\/+$/, ''));
/** An address, or a set of fields with nothing but that. */
const upstream = z.preprocess((value) => {
  const fields = typeof value === 'object' && value !== null ? (value as { url?: unknown }) : {};
  return Object.keys(fields).join() === 'url' ? fields.url : value;
}, url);

/** A secret, in the file or elsewhere. */
const secretValue = {
  value: text.regex(SENDABLE, 'cannot be sent in a header').optional(),
  value_file: text.optional(),
  value_env: text.optional(),
};

const size = z.union(
  [
    z.int().min(0),
    z
      .string()
      .regex(/^\d{1,9}\s*(?:b|kb|mb|gb)$/i)
      .transform((value) => {
        const [, digits = '', unit = ''] = /^(\d+)\s*(\w+)$/.exec(value) ?? [];
        return Number(digits) * UNITS[unit.toLowerCase() as keyof typeof UNITS];
      }),
  ],
  'is not a size',
);

const method = z
  .string('is not a method')
  .regex(/^[A-Z][A-Z-]{0,31}$/, 'is not a method in upper case')
  .refine((value) => value !== 'CONNECT', 'cannot be CONNECT, which is for proxies');

const origin = z
  .string('is not an origin')
  .refine(
    (value) => URL.canParse(value) && new URL(value).origin === value && value !== 'null',
    'is not an origin: scheme and host, without a slash at the end',
  );

/** What a route says, and what `defaults` may say for all of them. `null` takes back what the defaults say. */
export const routeFields = {
  upstreams: z.array(upstream, 'is not a list').min(1, 'is empty'),
  rewrite: path.nullable(),
  connect_timeout_seconds: seconds(0.1),
  timeout_seconds: seconds(0.1),
  idle_timeout_seconds: seconds(0.1),
  queue_timeout_seconds: seconds(0),
  max_connections: count(1, 65_535),
  http2: z.boolean('is neither true nor false'),
  tls: z
    .strictObject(
      {
        ca_file: text.optional(),
        cert_file: text.optional(),
        key_file: text.optional(),
        server_name: host.optional(),
        verify: z.boolean('is neither true nor false').default(true),
      },
      'is not a set of fields',
    )
    .nullable(),
  upstream_secret: z
    .strictObject(
      {
        header: token.refine(
          (value) => !NOT_A_SECRETS_NAME.test(value.replaceAll('_', '-')),
          'is a header that has a meaning already',
        ),
        ...secretValue,
      },
      'is not a set of fields',
    )
    .nullable(),
  health: z
    .strictObject(
      {
        path: z.string('is not a path').regex(/^\/[!-~]*$/, 'is not a path such as /health'),
        interval_seconds: seconds(0.1).default(10_000),
        timeout_seconds: seconds(0.1).default(2000),
        healthy_after: count(1, 100).default(2),
        unhealthy_after: count(1, 100).default(3),
      },
      'is not a set of fields',
    )
    .nullable(),
  circuit: z.strictObject(
    { failures: count(1, 1_000_000).default(5), open_seconds: seconds(0.1).default(5000) },
    'is not a set of fields',
  ),
  retry_budget: z.number('is not a number').min(0, 'is less than 0').max(1, 'is more than 1'),
  access: z.enum(['key', 'public'], 'is neither key nor public'),
  features: z.array(
    z.string('is not a feature').regex(/^[a-z0-9][a-z0-9._-]{0,63}$/, 'is not the name of a feature'),
    'is not a list',
  ),
  cost: z.union(
    [count(0, 1_000_000), z.strictObject({ header: token, estimate: count(0, 1_000_000).default(1) })],
    'is neither a whole number nor a header with an estimate',
  ),
  methods: z.array(method, 'is not a list').min(1, 'is empty').nullable(),
  max_body: size.nullable(),
  cors: z
    .strictObject(
      {
        origins: z.union(
          [z.literal('*'), z.array(origin).min(1, 'is empty')],
          'is neither a list of origins nor "*"',
        ),
        methods: z.array(method, 'is not a list').min(1, 'is empty').optional(),
        headers: z.array(token, 'is not a list').default([]),
        exposed_headers: z.array(token, 'is not a list').default([]),
        credentials: z.boolean('is neither true nor false').default(false),
        max_age_seconds: z
          .int('is not a whole number')
          .min(0)
          .max(MAX_SECONDS, 'is longer than a day')
          .default(600),
      },
      'is not a set of fields',
    )
    .nullable(),
  concurrency: count(1, 1_000_000).nullable(),
} as const;

export const defaultsSchema = z.strictObject(routeFields, 'is not a set of fields').partial();
export const routeSchema = z
  .strictObject(
    {
      name: z
        .string('is not a text')
        .regex(/^[\w.*/-]{1,64}$/, 'is not up to 64 letters, digits, dots, slashes, - and _'),
      hosts: z.array(host, 'is not a list'),
      path,
      ...routeFields,
    },
    'is not a set of fields',
  )
  .partial();

export type RouteFields = z.output<typeof routeSchema>;

/** By field, what it may look like. Shown beside a mistake. */
export const EXAMPLES: Readonly<Record<string, string>> = {
  routes: 'routes: [{ path: /v1, upstreams: [http://127.0.0.1:3000] }]',
  name: 'name: docs',
  hosts: 'hosts: [api.example.com, "*.example.net"]',
  path: 'path: /v1',
  upstreams: 'upstreams: [http://10.0.0.2:3000, http://10.0.0.3:3000]',
  rewrite: 'rewrite: /',
  connect_timeout_seconds: 'connect_timeout_seconds: 5',
  timeout_seconds: 'timeout_seconds: 60',
  idle_timeout_seconds: 'idle_timeout_seconds: 300',
  queue_timeout_seconds: 'queue_timeout_seconds: 5',
  max_connections: 'max_connections: 256',
  http2: 'http2: true',
  tls: 'tls: { ca_file: ca.pem, cert_file: client.pem, key_file: client-key.pem }',
  upstream_secret: 'upstream_secret: { header: X-Gateway-Secret, value_file: /run/secrets/upstream }',
  health: 'health: { path: /health, interval_seconds: 5 }',
  circuit: 'circuit: { failures: 5, open_seconds: 5 }',
  retry_budget: 'retry_budget: 0.2',
  access: 'access: public',
  features: 'features: [batch-requests]',
  cost: 'cost: 5, or cost: { header: X-Cost, estimate: 1 }',
  methods: 'methods: [GET, POST]',
  max_body: 'max_body: 10mb',
  cors: 'cors: { origins: [https://app.example.com] }',
  concurrency: 'concurrency: 10',
};

/** A path as clients spell it: what is not ASCII percent-encoded, unreserved characters plain. */
function encoded(value: string): string {
  const ascii = value.replace(/[^\x21-\x7e]+/g, (characters) => encodeURIComponent(characters));
  return ascii.replace(/%[0-9a-f]{2}/gi, (escaped) => {
    const character = String.fromCharCode(Number.parseInt(escaped.slice(1), 16));
    return /[\w.~-]/.test(character) ? character : escaped;
  });
}
