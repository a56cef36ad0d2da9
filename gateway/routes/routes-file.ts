import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { parse as parseYaml, YAMLParseError } from 'yaml';
import { type Config, ConfigError, type ConfigProblem } from '../../shared/config.ts';
import { nearestName } from './nearest-name.ts';
import { readPath } from './path-readings.ts';
import {
  type CorsPolicy,
  POLICY_DEFAULTS,
  type RoutePolicy,
  type RouteSpec,
  routeTo,
  UPSTREAM_DEFAULTS,
  type UpstreamSpec,
} from './route-spec.ts';
import { defaultsSchema, EXAMPLES, type RouteFields, routeSchema } from './routes-schema.ts';
import { type Report, readTls, readUpstreamSecret, type Surroundings } from './routes-secrets.ts';

const ANY_METHOD = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
const SHOWN_NAMES = 6;
/** What only makes sense where there is a key. */
const FOR_KEYS = ['features', 'cost', 'concurrency'] as const;

/**
 * The routes that are configured: those of the routes file, or the one of `UPSTREAM_URL`.
 *
 * @param env where the file's `value_env` are looked up
 * @throws ConfigError with every mistake in the file, each naming the route, the field, what is wrong and an example
 */
export function configuredRoutes(
  config: Pick<Config, 'routesFile' | 'upstreamUrl' | 'upstreamTimeoutMs'>,
  env: Surroundings['env'],
): RouteSpec[] {
  const { routesFile, upstreamUrl, upstreamTimeoutMs } = config;
  if (routesFile !== null) return readRoutesFile(routesFile, env, upstreamTimeoutMs);
  if (upstreamUrl === null) throw new Error('The gateway was started without an upstream');
  return [routeTo(upstreamUrl, upstreamTimeoutMs)];
}

/** The names of routes for a person to read, not all of them when there are many. */
export function namesOf(routes: readonly RouteSpec[]): string {
  const names = routes.slice(0, SHOWN_NAMES).map(({ name }) => name);
  const more = routes.length - names.length;
  return names.join(', ') + (more > 0 ? ` and ${more} more` : '');
}

function readRoutesFile(file: string, env: Surroundings['env'], timeoutMs: number): RouteSpec[] {
  const problems: ConfigProblem[] = [];
  const report = (where: string, field: string, message: string) => {
    const example = EXAMPLES[field.split(/[.[]/, 1)[0] as string];
    const what = [where, [field, message].filter(Boolean).join(' ')].filter(Boolean).join(': ');
    problems.push({ variable: 'ROUTES_FILE', message: `${file}: ${what}`, ...(example ? { example } : {}) });
  };
  const specs = specsOf(readYaml(file, report), { folder: dirname(file), env }, timeoutMs, report);
  if (problems.length > 0) throw new ConfigError(problems);
  return specs;
}

type ReportAt = (where: string, field: string, message: string) => void;

function readYaml(file: string, report: ReportAt): Record<string, unknown> | null {
  let raw: unknown;
  try {
    // Its warnings show what stands in the file.
    raw = parseYaml(readFileSync(file, 'utf8'), { logLevel: 'error' });
  } catch (error) {
    report('', '', `cannot be read: ${reasonOf(error as Error)}`);
    return null;
  }
  if (isMap(raw)) return raw;
  report('', 'routes', 'is missing: the file has no fields');
  return null;
}

/** Never what stands in the file, which may be a secret: unquoted, it is an alias, a tag or a field of its own to YAML. */
function reasonOf(error: Error): string {
  const [message = ''] = error.message.split('\n');
  if (error instanceof YAMLParseError) {
    const [at] = error.linePos ?? [];
    const [what = ''] = message.replace(/ at line .*/, '').split(':');
    return at === undefined ? what : `${what} at line ${at.line}, column ${at.col}`;
  }
  if (error instanceof ReferenceError)
    return 'An alias (*) has no anchor before it. Text with a * at its beginning has to be quoted';
  return message;
}

function specsOf(
  raw: Record<string, unknown> | null,
  surroundings: Surroundings,
  timeoutMs: number,
  report: ReportAt,
): RouteSpec[] {
  if (raw === null) return [];
  const { defaults: rawDefaults, routes: rawRoutes, ...unknown } = raw;
  for (const key of Object.keys(unknown)) report('', '', noField(key, ['defaults', 'routes']));
  const defaults = parsed(defaultsSchema, rawDefaults ?? {}, (field, message) =>
    report('defaults', field, message),
  );
  if (!Array.isArray(rawRoutes) || rawRoutes.length === 0) {
    report('', 'routes', rawRoutes === undefined ? 'is missing' : 'is not a list with at least one route');
    return [];
  }
  const specs: RouteSpec[] = [];
  const taken: Taken = { addresses: new Map(), names: new Map() };
  for (const [i, rawRoute] of rawRoutes.entries()) {
    const reportHere: Report = (field, message) => report(placeOf(i, rawRoute), field, message);
    const fields = parsed(routeSchema, rawRoute, reportHere);
    // With mistakes of its own or in the defaults, what is further wrong with it may only follow from those.
    if (fields === null || defaults === null) continue;
    const spec = specOf(fields, { ...defaults, ...fields }, surroundings, timeoutMs, reportHere);
    checkUnique(spec, taken, reportHere);
    specs.push(spec);
  }
  return specs;
}

/** @returns `null` when it was not what it has to be, and that was reported */
function parsed(
  schema: typeof routeSchema | typeof defaultsSchema,
  raw: unknown,
  report: Report,
): RouteFields | null {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    if (issue.code === 'unrecognized_keys') {
      const known = fieldsOf(issue.path.length === 0 ? schema : schema.shape[issue.path[0] as 'tls']);
      // What looks like a field may be the rest of a secret that has a comma or a colon in it.
      const secret = issue.path[0] === 'upstream_secret';
      for (const key of issue.keys) {
        const shown = !secret || nearestName(key, known) !== null;
        report(pathOf(issue.path), shown ? noField(key, known) : noSuchField(known));
      }
    } else report(pathOf(issue.path), issue.message);
  }
  return null;
}

/** @param own what the route itself says @param all with what the defaults say beside it */
function specOf(
  own: RouteFields,
  all: RouteFields,
  surroundings: Surroundings,
  timeoutMs: number,
  report: Report,
): RouteSpec {
  const { hosts = [], path = '/', rewrite = null, upstreams } = all;
  if (upstreams === undefined) report('upstreams', 'is missing, here and in the defaults');
  if (all.access === 'public') {
    for (const field of FOR_KEYS) {
      if (own[field]) report(field, 'needs a key, and this route is public: leave it out');
    }
  }
  return {
    name: all.name ?? `${hosts[0] ?? ''}${path}`,
    hosts: [...new Set(hosts)],
    path,
    rewrite,
    upstream: upstreamOf(own, all, surroundings, timeoutMs, report),
    policy: policyOf(all, report),
  };
}

function upstreamOf(
  own: RouteFields,
  all: RouteFields,
  surroundings: Surroundings,
  timeoutMs: number,
  report: Report,
): UpstreamSpec {
  const urls = all.upstreams ?? [];
  if (new Set(urls).size < urls.length) report('upstreams', 'names an address twice');
  const plain = urls.some((url) => url.startsWith('http:'));
  // What the defaults say of TLS is for those routes that have a use for it.
  if (plain && own.http2) report('http2', 'takes https:// upstreams');
  if (plain && own.tls) report('tls', 'takes https:// upstreams');
  const { health, circuit } = all;
  const answerMs = all.timeout_seconds ?? timeoutMs;
  return {
    urls,
    connectTimeoutMs: all.connect_timeout_seconds ?? UPSTREAM_DEFAULTS.connectTimeoutMs,
    timeoutMs: answerMs,
    idleTimeoutMs: all.idle_timeout_seconds ?? Math.max(answerMs, UPSTREAM_DEFAULTS.idleTimeoutMs),
    maxConnections: all.max_connections ?? UPSTREAM_DEFAULTS.maxConnections,
    queueTimeoutMs: all.queue_timeout_seconds ?? UPSTREAM_DEFAULTS.queueTimeoutMs,
    http2: all.http2 === true && !plain,
    tls: all.tls && !plain ? readTls(all.tls, surroundings, report) : null,
    secret: all.upstream_secret ? readUpstreamSecret(all.upstream_secret, surroundings, report) : null,
    health: health
      ? {
          path: health.path,
          intervalMs: health.interval_seconds,
          timeoutMs: health.timeout_seconds,
          healthyAfter: health.healthy_after,
          unhealthyAfter: health.unhealthy_after,
        }
      : null,
    circuit: circuit
      ? { failures: circuit.failures, openMs: circuit.open_seconds }
      : UPSTREAM_DEFAULTS.circuit,
    retryBudget: all.retry_budget ?? UPSTREAM_DEFAULTS.retryBudget,
  };
}

function policyOf(all: RouteFields, report: Report): RoutePolicy {
  // Who may ask for a resource may ask for its head.
  const methods = all.methods?.includes('GET') ? [...new Set(['GET', 'HEAD', ...all.methods])] : all.methods;
  const { access = 'key' } = all;
  const isPublic = access === 'public';
  return {
    access,
    features: isPublic ? [] : [...new Set(all.features)],
    cost: isPublic ? POLICY_DEFAULTS.cost : (all.cost ?? POLICY_DEFAULTS.cost),
    methods: methods ?? null,
    maxBodyBytes: all.max_body ?? null,
    cors: all.cors ? corsOf(all.cors, methods ?? ANY_METHOD, report) : null,
    concurrency: isPublic ? null : (all.concurrency ?? null),
  };
}

function corsOf(
  cors: NonNullable<RouteFields['cors']>,
  methods: readonly string[],
  report: Report,
): CorsPolicy {
  const { origins, headers, exposed_headers, credentials, max_age_seconds } = cors;
  // A browser would refuse it, and any page could act in its reader's name if it did not.
  if (origins === '*' && credentials) {
    report('cors.credentials', 'cannot be had by every origin: name the origins');
  }
  return {
    origins,
    methods: cors.methods ?? methods,
    headers,
    exposedHeaders: exposed_headers,
    credentials,
    maxAgeSeconds: max_age_seconds,
  };
}

/** What the routes so far have, and no other route may have: whose it is. */
type Taken = {
  /** A host, or nothing where any host is meant, and a path. */
  addresses: Map<string, RouteSpec>;
  names: Map<string, RouteSpec>;
};

function checkUnique(spec: RouteSpec, { addresses, names }: Taken, report: Report): void {
  const path = readPath(spec.path)?.furthest;
  const others = new Set<RouteSpec>();
  for (const host of spec.hosts.length === 0 ? [''] : spec.hosts) {
    const address = `${host} ${path}`;
    const other = addresses.get(address);
    if (other === undefined) addresses.set(address, spec);
    else if (!others.has(other)) {
      others.add(other);
      const where = `${host}${other.path}`;
      report(
        'path',
        `is that of the route "${other.name}" too: ${where} (upper and lower case are the same here)`,
      );
    }
  }
  const namesake = names.get(spec.name);
  if (namesake === undefined) names.set(spec.name, spec);
  else if (!others.has(namesake)) report('name', `is that of another route too: ${spec.name}`);
}

/** `route 2 (docs)`: people count from one. */
function placeOf(index: number, raw: unknown): string {
  const { name, hosts, path } = isMap(raw) ? raw : {};
  const host: unknown = Array.isArray(hosts) ? hosts[0] : '';
  const known =
    typeof name === 'string' ? name : [host, path].filter((part) => typeof part === 'string').join('');
  return `route ${index + 1}${known ? ` (${known})` : ''}`;
}

function noField(key: string, known: readonly string[]): string {
  const nearest = nearestName(key, known);
  return `has no field "${key}"${nearest === null ? `; there are: ${known.join(', ')}` : `; did you mean "${nearest}"?`}`;
}

function noSuchField(known: readonly string[]): string {
  return `has a field that it cannot have; there are: ${known.join(', ')}. A value with a comma or a colon has to be quoted`;
}

/** The fields of an object's schema, whatever it is wrapped in. */
function fieldsOf(schema: unknown): string[] {
  const { shape, unwrap } = schema as { shape?: object; unwrap?: () => unknown };
  if (shape !== undefined) return Object.keys(shape);
  return unwrap === undefined ? [] : fieldsOf(unwrap.call(schema));
}

/** `cors.origins[0]` */
function pathOf(path: readonly PropertyKey[]): string {
  return path
    .map((key, i) => (typeof key === 'number' ? `[${key}]` : `${i === 0 ? '' : '.'}${String(key)}`))
    .join('');
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
