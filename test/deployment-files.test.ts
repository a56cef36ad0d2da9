import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { loadConfig, type Service } from '../shared/config.ts';
import { variables } from '../shared/config-variables.ts';
import { SERVER_SECRET, temporaryFolder } from './keystores.ts';

type Env = Record<string, string>;

const KUBERNETES = 'docker/kubernetes';
/** What each service listens on: the defaults of the variables. */
const PORTS: Record<string, number[]> = {
  gateway: [variables.GATEWAY_PORT.schema.parse(undefined), variables.INTERNAL_PORT.schema.parse(undefined)],
  billing: [
    variables.BILLING_PORT.schema.parse(undefined),
    variables.BILLING_INTERNAL_PORT.schema.parse(undefined),
  ],
};
/** The files that answer the paths which probes ask. */
const ANSWERED_IN: Record<string, string[]> = {
  gateway: ['gateway/answers/endpoints.ts'],
  billing: ['billing/health.ts', 'billing/pricing.ts'],
};
/** What a process may take to stop beside its drain, seconds: `STOP_LIMIT_MS` of `shared/service.ts`. */
const STOP_SECONDS = 15;

/** A value for each secret, such as an operator has. */
const SECRETS: Env = {
  keystore_url: 'postgres://tollgate:password@db.internal/tollgate?sslmode=verify-full',
  redis_url: 'rediss://:password@redis.internal:6379',
  tollgate_secret: SERVER_SECRET,
  stripe_secret_key: 'rk_live_abcdefgh',
  stripe_webhook_secret: 'whsec_abcdefgh',
};

const dockerfile = readFileSync('docker/Dockerfile', 'utf8');
const scripts = Object.keys(JSON.parse(readFileSync('package.json', 'utf8')).scripts);

/** The variables that the image sets, of which `SERVICE` is its own. */
function imageEnv(): Env {
  const [, block = ''] = /^ENV ((?:.*\\\n)*.*)$/m.exec(dockerfile) ?? [];
  return Object.fromEntries([...block.matchAll(/(\w+)=(\S+)/g)].map(([, name, value]) => [name, value]));
}

/** The configuration as a container has it that is started so: it must be one that a service starts with. */
function configOf(service: string, env: Env) {
  const folder = temporaryFolder();
  const inContainer: Env = { ...imageEnv(), ...env };
  for (const [name, path] of Object.entries(inContainer)) {
    if (!name.endsWith('_FILE') || !path.startsWith('/run/secrets/')) continue;
    const secret = path.split('/').at(-1) as string;
    inContainer[name] = join(folder, secret);
    writeFileSync(inContainer[name], SECRETS[secret] as string);
  }
  if (inContainer.PLANS_FILE) inContainer.PLANS_FILE = join(KUBERNETES, 'plans.yaml');
  return loadConfig(inContainer, service as Service);
}

function expectKnownVariables(env: Env): void {
  for (const name of Object.keys(env)) {
    const isKnown = name in variables || name.replace(/_FILE$/, '') in variables;
    expect(isKnown || ['SERVICE', 'STRIPE_PRICE_MAP'].includes(name), name).toBe(true);
  }
}

function expectPathIsAnswered(service: string, path: string): void {
  const answers = (ANSWERED_IN[service] as string[]).map((file) => readFileSync(file, 'utf8')).join('\n');
  expect(answers, path).toContain(`.get('${path}'`);
}

function seconds(text: string): number {
  const [, count, unit] = /^(\d+)(s|m)$/.exec(text) ?? [];
  return Number(count) * (unit === 'm' ? 60 : 1);
}

it('the image starts what package.json has a script for', () => {
  expect(dockerfile).toContain('exec node \\"$SERVICE/main.ts\\"');
  for (const service of ['gateway', 'billing']) expect(scripts).toContain(service);
});

it('the image has all that its commands import, and is given it', () => {
  const ignored = readFileSync('.dockerignore', 'utf8').split('\n');
  const copied = [...dockerfile.matchAll(/^COPY ((?!--from).*) \S+$/gm)].flatMap(([, sources = '']) =>
    sources.split(' ').map((source) => source.replace(/^\.\//, '')),
  );
  for (const source of copied) expect(ignored).toContain(`!${source}`);
  for (const script of copied.filter((source) => source.startsWith('scripts/'))) {
    for (const [, path = ''] of readFileSync(script, 'utf8').matchAll(/from '(\.{1,2}\/[^']+)'/g)) {
      const imported = join('scripts', path);
      const isThere = copied.some((source) => imported === source || imported.startsWith(`${source}/`));
      expect(isThere, `${script} imports ${imported}`).toBe(true);
    }
  }
});

describe.each(['compose.yaml', 'compose.scaled.yaml'])('docker/%s', (file) => {
  const text = readFileSync(join('docker', file), 'utf8');
  const given: Env = {
    PUBLIC_BILLING_URL: 'https://buy.example.com',
    PUBLIC_GATEWAY_URL: 'https://api.example.com',
    UPSTREAM_URL: 'http://host.docker.internal:3000',
  };
  const filledIn = (_key: unknown, value: unknown) =>
    typeof value === 'string'
      ? value.replace(/\$\{(\w+):([-?])([^}]*)\}/g, (_all, name: string, kind: string, rest: string) =>
          kind === '-' ? (given[name] ?? rest) : (given[name] as string),
        )
      : value;
  // biome-ignore lint/suspicious/noExplicitAny: whatever stands in the file
  const compose = parse(text, filledIn, { merge: true }) as any;
  // biome-ignore lint/suspicious/noExplicitAny: as above
  const services = Object.entries<any>(compose.services);
  const ours = services.filter(([, { environment }]) => environment?.SERVICE !== undefined);

  it('has gateway and billing, with variables that there are, and they would start with them', () => {
    const names = ours.map(([, { environment }]) => environment.SERVICE);
    const each = file === 'compose.yaml' ? 1 : 2;
    for (const name of ['gateway', 'billing']) expect(names.filter((n) => n === name)).toHaveLength(each);
    for (const [, { environment }] of ours) {
      expect(scripts).toContain(environment.SERVICE);
      expectKnownVariables(environment);
      const config = configOf(environment.SERVICE, environment);
      expect(config.production).toBe(true);
      expect(config.keystoreUrl).toMatch(file === 'compose.yaml' ? /^sqlite:/ : /^postgres:/);
      if (file === 'compose.yaml') continue;
      expect(config.redisUrl !== null).toBe(environment.SERVICE === 'gateway');
      expect(config.trustedProxyList).toEqual([compose.services.proxy.networks.front.ipv4_address]);
    }
  });

  it('publishes no port of theirs beyond this machine, and those that they listen on', () => {
    for (const [, { environment, ports = [] }] of ours) {
      for (const port of ports as string[]) {
        const [address, , inside] = port.split(':');
        expect(address).toBe('127.0.0.1');
        expect(PORTS[environment.SERVICE]).toContain(Number(inside));
      }
    }
  });

  it('runs nothing as root, privileged, or with a root file system that can be written', () => {
    for (const [name, service] of services) {
      expect(service.read_only, name).toBe(true);
      expect(service.cap_drop, name).toEqual(['ALL']);
      expect(service.cap_add, name).toBeUndefined();
      expect(service.privileged, name).toBeUndefined();
      expect(service.security_opt, name).toContain('no-new-privileges:true');
      expect(service.restart, name).toBe('unless-stopped');
      if (service.build?.dockerfile === 'docker/Dockerfile') expect(dockerfile).toMatch(/^USER node$/m);
      else expect(service.user, name).toMatch(/^[1-9]\d*:[1-9]\d*$/);
      if (file !== 'compose.yaml') expect(service.deploy.resources.limits.memory, name).toBeDefined();
    }
  });

  it('asks each service for its health', () => {
    expect(dockerfile).toContain('docker/healthcheck.ts');
    for (const [name, { build, healthcheck }] of services) {
      const isOurs = build?.dockerfile === 'docker/Dockerfile';
      expect(isOurs || healthcheck !== undefined, name).toBe(true);
    }
  });

  it('waits for longer than a service takes to stop', () => {
    for (const [, { environment, stop_grace_period }] of ours) {
      const { drainMs, stopDelayMs } = configOf(environment.SERVICE, environment);
      const drain = environment.SERVICE === 'gateway' ? (drainMs + stopDelayMs) / 1000 : 0;
      if (file !== 'compose.yaml')
        expect(seconds(stop_grace_period)).toBeGreaterThanOrEqual(drain + STOP_SECONDS);
      expect(seconds(stop_grace_period)).toBeGreaterThan(drain);
    }
  });

  it('names only secrets, networks and volumes that are defined', () => {
    for (const [name, service] of services) {
      for (const secret of service.secrets ?? []) expect(compose.secrets, name).toHaveProperty(secret);
      for (const path of Object.values<string>(service.environment ?? {})) {
        if (String(path).startsWith('/run/secrets/'))
          expect(service.secrets).toContain(path.split('/').at(-1));
      }
      const networks = Array.isArray(service.networks)
        ? service.networks
        : Object.keys(service.networks ?? {});
      for (const network of networks) expect(compose.networks, name).toHaveProperty(network);
      for (const other of Object.keys(service.depends_on ?? {}))
        expect(compose.services).toHaveProperty(other);
    }
  });
});

it('the proxy sends to the services of compose.scaled.yaml, and asks them for what they answer', () => {
  const { services } = parse(readFileSync('docker/compose.scaled.yaml', 'utf8'), { merge: true });
  const caddyfile = readFileSync('docker/Caddyfile', 'utf8');
  const upstreams = [...caddyfile.matchAll(/\b([a-z]+-\d):(\d+)/g)];
  expect(upstreams.map(([, name]) => name).sort()).toEqual(
    Object.keys(services)
      .filter((name) => /-\d$/.test(name))
      .sort(),
  );
  const [, path = ''] = /health_uri (\S+)/.exec(caddyfile) ?? [];
  for (const [, name = '', port] of upstreams) {
    const { SERVICE } = services[name].environment;
    expect(Number(port)).toBe(PORTS[SERVICE]?.[0]);
    expectPathIsAnswered(SERVICE, path);
  }
});

describe('docker/kubernetes', () => {
  // biome-ignore lint/suspicious/noExplicitAny: whatever stands in the files
  const documentsIn = (file: string): any[] =>
    parseAllDocuments(readFileSync(join(KUBERNETES, file), 'utf8')).map((each) => each.toJS());
  const [kustomization] = documentsIn('kustomization.yaml');
  const objects = (kustomization.resources as string[]).flatMap(documentsIn);
  const ofKind = (kind: string) => objects.filter((object) => object.kind === kind);
  const nameOf = (object: { metadata: { labels: Record<string, string> } }) =>
    object.metadata.labels['app.kubernetes.io/name'] as string;
  const secrets = documentsIn('secrets.example.yaml');
  const settings = Object.fromEntries(
    (kustomization.configMapGenerator as { name: string; literals?: string[] }[]).map(
      ({ name, literals = [] }) => [name, Object.fromEntries(literals.map((line) => line.split(/=(.*)/s)))],
    ),
  ) as Record<string, Env>;

  const deployments = ofKind('Deployment').map((deployment) => {
    const { spec } = deployment.spec.template;
    const [container] = spec.containers;
    const env: Env = {};
    for (const { configMapRef } of container.envFrom) Object.assign(env, settings[configMapRef.name]);
    for (const { name, value } of container.env) env[name] = value;
    return { deployment, spec, container, env, service: env.SERVICE as string };
  });

  it('takes in every file but the example of secrets', () => {
    const files = readdirSync(KUBERNETES).filter((file) => file.endsWith('.yaml'));
    expect(
      [...kustomization.resources, 'kustomization.yaml', 'plans.yaml', 'secrets.example.yaml'].sort(),
    ).toEqual(files.sort());
  });

  it('has gateway and billing, with variables that there are, and they would start with them', () => {
    expect(deployments.map(({ service }) => service).sort()).toEqual(['billing', 'gateway']);
    for (const { env, service, container } of deployments) {
      expect(scripts).toContain(service);
      expect(container.image).toBe(kustomization.images[0].name);
      expectKnownVariables(env);
      const config = configOf(service, env);
      expect(config.production).toBe(true);
      expect(config.host).toBe('0.0.0.0');
      expect(config.keystoreUrl).toBe(SECRETS.keystore_url);
      expect(config.redisUrl).toBe(service === 'gateway' ? SECRETS.redis_url : null);
    }
  });

  it('mounts what its variables name, from Secrets that the example explains', () => {
    for (const { env, spec, container } of deployments) {
      for (const path of Object.values(env).filter((value) => value.startsWith('/run/secrets/'))) {
        const mount = container.volumeMounts.find((each: { mountPath: string }) =>
          path.startsWith(`${each.mountPath}/`),
        );
        const volume = spec.volumes.find((each: { name: string }) => each.name === mount?.name);
        const secret = secrets.find(({ metadata }) => metadata.name === volume?.secret?.secretName);
        expect(secret?.stringData, path).toHaveProperty(path.split('/').at(-1) as string);
      }
      for (const { name } of container.volumeMounts)
        expect(spec.volumes.map((volume: { name: string }) => volume.name)).toContain(name);
    }
  });

  it('the example of secrets holds nothing that a service would start with', () => {
    for (const { stringData } of secrets) {
      for (const [name, value] of Object.entries(stringData)) {
        const variable = name.toUpperCase() as keyof typeof variables;
        expect(variables[variable].schema.safeParse(value).success, name).toBe(false);
      }
    }
  });

  it('runs nothing as root, privileged, or with a root file system that can be written', () => {
    for (const { spec, container } of deployments) {
      expect(spec.containers).toHaveLength(1);
      expect(spec.initContainers).toBeUndefined();
      expect(spec.hostNetwork).toBeUndefined();
      expect(spec.automountServiceAccountToken).toBe(false);
      expect(spec.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: expect.toSatisfy((id: number) => id > 0),
        seccompProfile: { type: 'RuntimeDefault' },
      });
      expect(container.securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(container.resources).toMatchObject({
        requests: { cpu: expect.anything(), memory: expect.anything() },
        limits: { memory: expect.anything() },
      });
    }
  });

  it('is not told by Kubernetes what GATEWAY_PORT and BILLING_PORT are', () => {
    for (const { spec } of deployments) expect(spec.enableServiceLinks).toBe(false);
  });

  it('asks each service at a path that it answers, on a port that it listens on', () => {
    for (const { container, service } of deployments) {
      const ports = container.ports.map((port: { containerPort: number }) => port.containerPort);
      expect(ports).toEqual(PORTS[service]);
      for (const probe of ['startupProbe', 'readinessProbe', 'livenessProbe']) {
        const { path, port } = container[probe].httpGet;
        expect(port).toBe('http');
        expectPathIsAnswered(service, path);
      }
    }
  });

  it('ends no service because the database is away, and asks a gateway itself whether it goes on without', () => {
    for (const { container, service } of deployments) {
      const withoutDatabase = service === 'gateway' ? '/health' : '/billing/plans';
      expect(container.livenessProbe.httpGet.path).toBe(withoutDatabase);
      if (service === 'gateway') expect(container.readinessProbe.httpGet.path).toBe('/ready');
    }
  });

  it('waits for longer than a service takes to stop', () => {
    for (const { env, spec, container, service } of deployments) {
      const { drainMs, stopDelayMs } = configOf(service, env);
      const pause = Number(container.lifecycle?.preStop.exec.command[1] ?? 0);
      const drain = service === 'gateway' ? (drainMs + stopDelayMs) / 1000 : 0;
      // Load balancers are told only after the process.
      expect(pause + stopDelayMs / 1000).toBeGreaterThanOrEqual(5);
      expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(pause + drain + STOP_SECONDS);
    }
  });

  it('has two of each, a Service, a disruption budget and spread for them', () => {
    for (const { deployment, spec } of deployments) {
      const selector = { 'app.kubernetes.io/name': nameOf(deployment) };
      const { name } = deployment.metadata;
      expect(deployment.spec.selector.matchLabels).toEqual(selector);
      expect(deployment.spec.template.metadata.labels).toMatchObject(selector);
      const scaler = ofKind('HorizontalPodAutoscaler').find((each) => each.spec.scaleTargetRef.name === name);
      expect(deployment.spec.replicas ?? scaler?.spec.minReplicas).toBeGreaterThanOrEqual(2);
      expect(ofKind('PodDisruptionBudget').map((each) => each.spec.selector.matchLabels)).toContainEqual(
        selector,
      );
      expect(ofKind('Service').map((each) => each.spec.selector)).toContainEqual(selector);
      for (const spread of spec.topologySpreadConstraints)
        expect(spread.labelSelector.matchLabels).toEqual(selector);
    }
  });

  it('has Services at the ports of the containers, and gives the internal one a name of its own', () => {
    for (const service of ofKind('Service')) {
      const { container } = deployments.find(({ deployment }) => nameOf(deployment) === nameOf(service)) as {
        container: { ports: { name: string; containerPort: number }[] };
      };
      for (const { port, targetPort } of service.spec.ports)
        expect(container.ports).toContainEqual({ name: targetPort, containerPort: port });
      const isInternal = service.spec.ports.some(({ port }: { port: number }) => port === PORTS.gateway?.[1]);
      expect(isInternal).toBe(service.metadata.name.endsWith('-internal'));
      expect(service.spec.type).toBeUndefined();
    }
  });

  it('lets nobody in who is not named, and to the internal port only from inside', () => {
    const policies = ofKind('NetworkPolicy');
    expect(policies.some(({ spec }) => Object.keys(spec.podSelector).length === 0 && !spec.ingress)).toBe(
      true,
    );
    const rules = policies.flatMap(({ spec }) => spec.ingress ?? []);
    for (const rule of rules) {
      expect(rule.from.length).toBeGreaterThan(0);
      expect(rule.ports.length).toBeGreaterThan(0);
      for (const { namespaceSelector, podSelector, ipBlock } of rule.from) {
        expect(ipBlock).toBeUndefined();
        expect(podSelector !== undefined || namespaceSelector.matchLabels !== undefined).toBe(true);
      }
      const ports = rule.ports.map(({ port }: { port: number }) => port);
      const internal = [PORTS.gateway?.[1], PORTS.billing?.[1]];
      if (internal.some((port) => ports.includes(port))) expect(ports).toEqual(internal);
    }
    const open = rules.flatMap((rule) => rule.ports.map(({ port }: { port: number }) => port));
    expect(open.sort()).toEqual(Object.values(PORTS).flat().sort());
  });

  it('stays within the connections that a PostgreSQL has by default', () => {
    const [scaler] = ofKind('HorizontalPodAutoscaler');
    const billing = deployments.find(({ service }) => service === 'billing')?.deployment.spec.replicas;
    // One more of each while they are replaced; eight in the pool and one for the change feed; three are the superuser's.
    expect((scaler.spec.maxReplicas + 1 + billing + 1) * 9).toBeLessThanOrEqual(97);
  });
});
