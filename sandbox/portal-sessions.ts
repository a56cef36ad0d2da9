import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { base62, newId } from './ids.ts';
import { required, string, unsupported, url } from './params.ts';
import { type Route, route } from './routes.ts';
import { hour, type World } from './world.ts';

export type PortalSession = ReturnType<typeof newPortalSession>;

/** How long the address of a portal session works. */
const validFor = hour;

function newPortalSession(world: World, customer: string, configuration: string, returnUrl: string | null) {
  return {
    id: newId('bps'),
    object: 'billing_portal.session' as const,
    configuration,
    created: world.clock.now(),
    customer,
    customer_account: null,
    flow: null,
    livemode: false,
    locale: null,
    on_behalf_of: null,
    return_url: returnUrl,
    url: `${world.publicUrl}/p/session/test_${base62(48)}`,
  };
}

/** The session behind a portal address, unless it has run out. */
export function findPortalSession(world: World, token: string): PortalSession | undefined {
  const session = world.store.portalSessions.all().find(({ url }) => url.endsWith(`/p/session/${token}`));
  return session && world.clock.now() - session.created < validFor ? session : undefined;
}

export const portalSessionRoutes: Route[] = [
  route(
    'POST',
    '/v1/billing_portal/sessions',
    {
      customer: required(string()),
      configuration: string(),
      return_url: url(),
      ...unsupported('after_expiration', 'customer_account', 'flow_data', 'locale', 'on_behalf_of'),
    },
    (world, params) => {
      world.store.customers.named(params.customer, 'customer');
      const { portalConfigurations } = world.store;
      const configuration = params.configuration
        ? portalConfigurations.named(params.configuration, 'configuration')
        : portalConfigurations.all().find(({ is_default }) => is_default);
      if (!configuration) {
        throw invalid(
          'No configuration provided and your test mode default configuration has not been created. Provide a configuration or create your default by saving your customer portal settings in test mode at https://dashboard.stripe.com/test/settings/billing/portal.',
        );
      }
      const returnUrl = params.return_url ?? configuration.default_return_url;
      const session = world.store.portalSessions.add(
        newPortalSession(world, params.customer, configuration.id, returnUrl),
      );
      emit(world, 'billing_portal.session.created', session);
      return session;
    },
  ),
];
