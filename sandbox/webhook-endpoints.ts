import { invalid } from './errors.ts';
import { eventTypes } from './event-types.ts';
import type { StripeEvent } from './events.ts';
import { base62, newId } from './ids.ts';
import {
  boolean,
  clearable,
  list,
  mergeMetadata,
  metadata,
  only,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { listRoute, type Route, route } from './routes.ts';
import { apiVersion, type World } from './world.ts';

export interface WebhookEndpoint {
  id: string;
  object: 'webhook_endpoint';
  api_version: string | null;
  application: null;
  created: number;
  description: string | null;
  enabled_events: string[];
  livemode: false;
  metadata: Record<string, string>;
  status: 'enabled' | 'disabled';
  url: string;
}

const secrets = new WeakMap<WebhookEndpoint, string>();

/** The endpoint's signing secret, which Stripe shows only when it is created. */
export function secretOf(endpoint: WebhookEndpoint): string {
  return secrets.get(endpoint) ?? '';
}

/** Every endpoint: those that get whole events, and those that get thin ones. */
export function allEndpoints({ store }: World): WebhookEndpoint[] {
  return [...store.webhookEndpoints.all(), ...store.thinEndpoints.all()];
}

/** Whether `endpoint` is to hear of `event`. Thin events are named with `v1.` before their type. */
export function listensTo(endpoint: WebhookEndpoint, event: StripeEvent): boolean {
  const { enabled_events: enabled } = endpoint;
  const type = isThin(endpoint) ? `v1.${event.type}` : event.type;
  return endpoint.status === 'enabled' && (enabled.includes('*') || enabled.includes(type));
}

/** Whether `endpoint` gets thin events: those of the newer API do, which have another kind of id. */
export function isThin(endpoint: WebhookEndpoint): boolean {
  return endpoint.id.startsWith('ed_');
}

/** Registers an endpoint. The secret is 32 characters behind `whsec_`. */
export function createEndpoint(
  world: World,
  wanted: {
    url: string;
    enabled_events: string[];
    description?: string | null;
    metadata?: Record<string, string>;
    /** That of an account of old; events are written in the sandbox's own all the same. */
    api_version?: string | undefined;
  },
  thin = false,
): WebhookEndpoint {
  requireTypes(wanted.enabled_events, thin ? 'v1.' : '');
  if (!/^https?:\/\//.test(wanted.url))
    throw invalid('Invalid URL: must be http or https', 'url', 'url_invalid');
  const endpoint: WebhookEndpoint = {
    id: newId(thin ? 'ed_test' : 'we'),
    object: 'webhook_endpoint',
    api_version: wanted.api_version ?? apiVersion,
    application: null,
    created: world.clock.now(),
    description: wanted.description ?? null,
    enabled_events: wanted.enabled_events,
    livemode: false,
    metadata: wanted.metadata ?? {},
    status: 'enabled',
    url: wanted.url,
  };
  secrets.set(endpoint, `whsec_${base62(32)}`);
  return (thin ? world.store.thinEndpoints : world.store.webhookEndpoints).add(endpoint);
}

function requireTypes(types: string[], before = ''): void {
  for (const [index, type] of types.entries()) {
    const known = type.startsWith(before) && eventTypes.includes(type.slice(before.length));
    if (type !== '*' && !known) {
      throw invalid(
        `Invalid enabled_events[${index}]: must be one of *, or a type of event (you passed ${type})`,
        `enabled_events[${index}]`,
      );
    }
  }
  if (types.includes('*') && types.length > 1) {
    throw invalid("You cannot pass '*' together with other types of events.", 'enabled_events');
  }
}

export const webhookEndpointRoutes: Route[] = [
  route(
    'POST',
    '/v1/webhook_endpoints',
    {
      url: required(url()),
      enabled_events: required(list(string(), 300)),
      api_version: only(apiVersion),
      description: clearable(string()),
      metadata: metadata(),
      ...unsupported('connect'),
    },
    (world, params) => {
      const endpoint = createEndpoint(world, { ...params, metadata: mergeMetadata({}, params.metadata) });
      return { ...endpoint, secret: secretOf(endpoint) };
    },
  ),
  listRoute('/v1/webhook_endpoints', {}, (world) => world.store.webhookEndpoints.all()),
  route('GET', '/v1/webhook_endpoints/:id', {}, (world, _params, id) => world.store.webhookEndpoints.get(id)),
  route(
    'POST',
    '/v1/webhook_endpoints/:id',
    {
      url: url(),
      enabled_events: list(string(), 300),
      disabled: boolean(),
      description: clearable(string()),
      metadata: metadata(),
    },
    (world, params, id) => {
      const endpoint = world.store.webhookEndpoints.get(id);
      if (params.enabled_events) requireTypes(params.enabled_events);
      return Object.assign(endpoint, {
        url: params.url ?? endpoint.url,
        enabled_events: params.enabled_events ?? endpoint.enabled_events,
        description: params.description === undefined ? endpoint.description : params.description,
        metadata: mergeMetadata(endpoint.metadata, params.metadata),
        status: params.disabled === undefined ? endpoint.status : params.disabled ? 'disabled' : 'enabled',
      });
    },
  ),
  route('DELETE', '/v1/webhook_endpoints/:id', {}, (world, _params, id) => {
    world.store.webhookEndpoints.get(id);
    world.store.webhookEndpoints.remove(id);
    return { id, object: 'webhook_endpoint', deleted: true };
  }),
];
