import { existsSync, readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { Exchange } from './api.ts';
import type { StripeEvent } from './events.ts';
import { type Sandbox, type SandboxOptions, startSandbox } from './server.ts';

export const descriptionPath = new URL('../../shared/stripe/openapi.2026-10-28.endive.json', import.meta.url);

/** Whether Stripe's OpenAPI description lies beside the repository, so that answers and events can be checked. */
export const described = existsSync(descriptionPath);

/** Paths the description leaves out: of the newer API, and of the hosted page, which Stripe does not describe. */
export const undescribed = /^\/v2\/|^\/v1\/payment_pages\//;

interface Description {
  paths: Record<
    string,
    Record<string, { responses: Record<string, { content: Record<string, { schema: object }> }> }>
  >;
  components: { schemas: object };
  'x-events': Record<string, { object: string }>;
}

function load() {
  const description = JSON.parse(readFileSync(descriptionPath, 'utf8')) as Description;
  const ajv = new Ajv2020({ strict: false, allErrors: true, validateFormats: false });
  ajv.addSchema({ $id: 'stripe', components: description.components });
  const checkers = new Map<string, ReturnType<typeof ajv.compile>>();
  const compile = (name: string, schema: object) => {
    const known = checkers.get(name);
    if (known) return known;
    const rooted = JSON.parse(
      JSON.stringify(schema).replaceAll('"#/components', '"stripe#/components'),
    ) as object;
    const made = ajv.compile(rooted);
    checkers.set(name, made);
    return made;
  };
  return (name: string, schema: object, value: unknown): string[] => {
    const check = compile(name, schema);
    if (check(value)) return [];
    return (check.errors ?? []).slice(0, 5).map((error) => `${name}${error.instancePath}: ${error.message}`);
  };
}

const loaded = described
  ? { check: load(), description: JSON.parse(readFileSync(descriptionPath, 'utf8')) as Description }
  : undefined;

function ofExchange({ method, route, status, body }: Exchange): string[] {
  if (!loaded) return [];
  if (status !== 200) {
    return loaded.check('error', { $ref: '#/components/schemas/error' }, body);
  }
  if (route && undescribed.test(route)) return [];
  const operation =
    loaded.description.paths[(route ?? '').replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()];
  if (!operation) return [`${method} ${route} is not in the description`];
  const schema = operation.responses['200']?.content['application/json']?.schema as object;
  return loaded.check(`${method} ${route}`, schema, body);
}

/** What of an event does not fit the description; nothing where that is absent. */
export function eventProblems(event: StripeEvent): string[] {
  if (!loaded) return [];
  const kind = loaded.description['x-events'][event.type];
  if (!kind) return [`${event.type} is not in the description`];
  return [
    ...loaded.check('event', { $ref: '#/components/schemas/event' }, event),
    ...loaded.check(event.type, { $ref: `#/components/schemas/${kind.object}` }, event.data.object),
  ];
}

/** A sandbox whose every answer and event is checked against Stripe's description; `problems` holds what did not fit. */
export async function startCheckedSandbox(
  options: SandboxOptions = {},
): Promise<Sandbox & { problems: string[] }> {
  const problems: string[] = [];
  const sandbox = await startSandbox({
    ...options,
    onExchange(exchange) {
      problems.push(...ofExchange(exchange));
      options.onExchange?.(exchange);
    },
    onEvent(event) {
      problems.push(...eventProblems(event));
      options.onEvent?.(event);
    },
  });
  return { ...sandbox, problems };
}
