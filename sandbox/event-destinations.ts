import { noSuch } from './errors.ts';
import { readableEvents } from './events.ts';
import {
  inRange,
  integer,
  list,
  mergeMetadata,
  metadata,
  object,
  oneOf,
  only,
  required,
  string,
  unsupported,
  url,
} from './params.ts';
import { type Route, route } from './routes.ts';
import { thinOf } from './thin-events.ts';
import { createEndpoint, isThin, secretOf, type WebhookEndpoint } from './webhook-endpoints.ts';
import { apiVersion, type World } from './world.ts';

/** A webhook endpoint as the newer API shows it: without what is to be included by name. */
function shown(endpoint: WebhookEndpoint, include: string[] = []) {
  const thin = isThin(endpoint);
  const hook = {
    ...(include.includes('webhook_endpoint.url') ? { url: endpoint.url } : {}),
    ...(include.includes('webhook_endpoint.signing_secret') ? { signing_secret: secretOf(endpoint) } : {}),
  };
  const created = new Date(endpoint.created * 1000).toISOString();
  return {
    id: endpoint.id,
    object: 'v2.core.event_destination',
    created,
    description: endpoint.description ?? '',
    enabled_events: endpoint.enabled_events,
    event_payload: thin ? 'thin' : 'snapshot',
    events_from: ['@self'],
    livemode: false,
    metadata: endpoint.metadata,
    name: names.get(endpoint) ?? '',
    ...(thin ? {} : { snapshot_api_version: apiVersion }),
    status: endpoint.status,
    type: 'webhook_endpoint',
    updated: created,
    ...(Object.keys(hook).length > 0 ? { webhook_endpoint: hook } : {}),
  };
}

const names = new WeakMap<WebhookEndpoint, string>();

function destination(world: World, id: string): WebhookEndpoint {
  return world.store.webhookEndpoints.find(id) ?? world.store.thinEndpoints.get(id);
}

/** All there is in one page, as the newer API lists. */
function onePage(data: object[]) {
  return { data, next_page_url: null, previous_page_url: null };
}

const include = list(oneOf('webhook_endpoint.signing_secret', 'webhook_endpoint.url'));

export const eventDestinationRoutes: Route[] = [
  route(
    'POST',
    '/v2/core/event_destinations',
    {
      name: required(string()),
      description: string(),
      enabled_events: required(list(string(), 300)),
      event_payload: required(oneOf('snapshot', 'thin')),
      type: required(only('webhook_endpoint')),
      webhook_endpoint: required(object({ url: required(url()) })),
      events_from: list(only('@self')),
      metadata: metadata(),
      snapshot_api_version: only(apiVersion),
      include,
      ...unsupported('amazon_eventbridge', 'azure_event_grid'),
    },
    (world, params) => {
      const endpoint = createEndpoint(
        world,
        {
          url: params.webhook_endpoint.url,
          enabled_events: params.enabled_events,
          description: params.description ?? null,
          metadata: mergeMetadata({}, params.metadata),
        },
        params.event_payload === 'thin',
      );
      names.set(endpoint, params.name);
      return shown(endpoint, params.include);
    },
  ),
  route('GET', '/v2/core/event_destinations', { include, limit: integer(1, 100) }, (world, params) =>
    onePage(
      [...world.store.thinEndpoints.all(), ...world.store.webhookEndpoints.all()].map((endpoint) =>
        shown(endpoint, params.include),
      ),
    ),
  ),
  route('GET', '/v2/core/event_destinations/:id', { include }, (world, params, id) =>
    shown(destination(world, id), params.include),
  ),
  ...(['disable', 'enable'] as const).map((act) =>
    route('POST', `/v2/core/event_destinations/:id/${act}`, { include }, (world, params, id) => {
      const endpoint = destination(world, id);
      endpoint.status = `${act}d`;
      return shown(endpoint, params.include);
    }),
  ),
  route('DELETE', '/v2/core/event_destinations/:id', {}, (world, _params, id) => {
    destination(world, id);
    world.store.thinEndpoints.remove(id);
    world.store.webhookEndpoints.remove(id);
    return { id, object: 'v2.core.event_destination' };
  }),
  route(
    'GET',
    '/v2/core/events',
    {
      limit: integer(1, 100),
      object_id: string(),
      types: list(string(), 20),
      created: object({ gt: string(), gte: string(), lt: string(), lte: string() }),
    },
    (world, params) =>
      onePage(
        readableEvents(world)
          .map(thinOf)
          .filter(
            (event) =>
              (!params.types || params.types.includes(event.type)) &&
              (params.object_id === undefined || event.related_object?.id === params.object_id) &&
              (!params.created || inRange(Date.parse(event.created), milliseconds(params.created))),
          )
          .slice(0, params.limit ?? 20),
      ),
  ),
  route('GET', '/v2/core/events/:id', {}, (world, _params, id) => {
    const found = readableEvents(world).find((event) => event.id === id || thinOf(event).id === id);
    if (!found) throw noSuch('event', id, 'id', 404);
    return thinOf(found);
  }),
];

function milliseconds(range: Record<string, string | undefined>): Record<string, number | undefined> {
  return Object.fromEntries(
    Object.entries(range).map(([bound, time]) => [bound, time === undefined ? time : Date.parse(time)]),
  );
}
