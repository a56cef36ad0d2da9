import Stripe from 'stripe';
import { ProblemError } from '../shared/problems.ts';
import { callStripe, pages } from './stripe-client.ts';
import { EVENT_KINDS } from './stripe-events.ts';

/** A webhook endpoint of the account. */
export type EndpointLook = {
  id: string;
  url: string;
  enabled: boolean;
  /** Types of events that do something here and are not sent there. */
  missingEvents: readonly string[];
  /** Whether its events only name what they are about. */
  thin: boolean;
  /** In which version of Stripe's API its events are written; `null`: the account's, or none as they are thin. */
  apiVersion: string | null;
};

/** The newest version of Stripe's API whose events were tried: that of the client. */
export const NEWEST_VERSION: string = Stripe.API_VERSION;

const WANTED = Object.keys(EVENT_KINDS);

/**
 * Every webhook endpoint of the account, also those for thin events where the key may see them.
 *
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function lookAtEndpoints(stripe: Stripe): Promise<EndpointLook[]> {
  const looks: EndpointLook[] = [];
  for await (const page of pages((after) => stripe.webhookEndpoints.list({ limit: 100, ...after }))) {
    for (const { id, url, status, enabled_events, api_version } of page) {
      const missingEvents = missingIn(enabled_events);
      looks.push({
        id,
        url,
        enabled: status === 'enabled',
        missingEvents,
        thin: false,
        apiVersion: api_version,
      });
    }
  }
  return [...looks, ...(await lookAtThinEndpoints(stripe))];
}

async function lookAtThinEndpoints(stripe: Stripe): Promise<EndpointLook[]> {
  try {
    const { data } = await callStripe(() =>
      stripe.v2.core.eventDestinations.list({ limit: 100, include: ['webhook_endpoint.url'] }),
    );
    return data
      .filter((each) => each.event_payload === 'thin' && each.webhook_endpoint?.url)
      .map((each) => ({
        id: each.id,
        url: each.webhook_endpoint?.url as string,
        enabled: each.status === 'enabled',
        missingEvents: missingIn(each.enabled_events.map((type) => type.replace(/^v1\./, ''))),
        thin: true,
        apiVersion: null,
      }));
  } catch (error) {
    // Hardly anybody has them, and a key may well not see them.
    if (error instanceof ProblemError && error.code === 'stripe_refused') return [];
    throw error;
  }
}

function missingIn(enabled: readonly string[]): string[] {
  return enabled.includes('*') ? [] : WANTED.filter((type) => !enabled.includes(type));
}

/**
 * Registers an endpoint for every event that something is done about.
 *
 * @returns its signing secret, which Stripe shows this once
 * @throws ProblemError `stripe_unavailable`, `stripe_refused`
 */
export async function createEndpoint(stripe: Stripe, url: string): Promise<string> {
  const { secret } = await callStripe(() =>
    stripe.webhookEndpoints.create({
      url,
      enabled_events: WANTED as Stripe.WebhookEndpointCreateParams.EnabledEvent[],
      description: 'Tollgate',
    }),
  );
  return secret as string;
}

/** Has an endpoint get the events that it lacks besides those it gets, and be enabled. */
export async function repairEndpoint(stripe: Stripe, id: string): Promise<void> {
  const { enabled_events } = await callStripe(() => stripe.webhookEndpoints.retrieve(id));
  const all = enabled_events.includes('*') ? ['*'] : [...new Set([...enabled_events, ...WANTED])];
  await callStripe(() =>
    stripe.webhookEndpoints.update(id, {
      enabled_events: all as Stripe.WebhookEndpointUpdateParams.EnabledEvent[],
      disabled: false,
    }),
  );
}
