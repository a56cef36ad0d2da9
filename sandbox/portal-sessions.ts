import { invalid } from './errors.ts';
import { emit } from './events.ts';
import { base62, newId } from './ids.ts';
import { missing, object, oneOf, required, string, unsupported, url } from './params.ts';
import { type Route, route } from './routes.ts';
import { hour, type World } from './world.ts';

export type PortalSession = ReturnType<typeof newPortalSession>;

/** How long the address of a portal session works. */
const validFor = hour;

const flowShape = object({
  type: required(oneOf('payment_method_update', 'subscription_cancel', 'subscription_update')),
  subscription_cancel: object({ subscription: required(string()), ...unsupported('retention') }),
  subscription_update: object({ subscription: required(string()) }),
  after_completion: object({
    type: required(oneOf('portal_homepage', 'redirect')),
    redirect: object({ return_url: required(url()) }),
    ...unsupported('hosted_confirmation'),
  }),
  ...unsupported('subscription_pause', 'subscription_update_confirm'),
});

/** What a portal session is to be used for. Here it opens the whole portal all the same. */
function flowOf(world: World, customer: string, wanted: ReturnType<typeof flowShape.parse> | undefined) {
  if (!wanted) return null;
  const target = wanted.type === 'payment_method_update' ? undefined : wanted[wanted.type];
  if (wanted.type !== 'payment_method_update') {
    const path = `flow_data[${wanted.type}]`;
    if (!target) throw missing(path);
    const sub = world.store.subscriptions.named(target.subscription, `${path}[subscription]`);
    if (sub.customer !== customer)
      throw invalid('The subscription does not belong to the customer.', `${path}[subscription]`);
  }
  const of = (type: string) =>
    target && wanted.type === type ? { subscription: target.subscription } : null;
  const cancel = of('subscription_cancel');
  return {
    after_completion: {
      hosted_confirmation: null,
      redirect: wanted.after_completion?.redirect ?? null,
      type: wanted.after_completion?.type ?? ('portal_homepage' as const),
    },
    customer_update: null,
    subscription_cancel: cancel && { ...cancel, retention: null },
    subscription_pause: null,
    subscription_update: of('subscription_update'),
    subscription_update_confirm: null,
    type: wanted.type,
  };
}

function newPortalSession(
  world: World,
  customer: string,
  configuration: string,
  returnUrl: string | null,
  flow: ReturnType<typeof flowOf>,
) {
  return {
    id: newId('bps'),
    object: 'billing_portal.session' as const,
    configuration,
    created: world.clock.now(),
    customer,
    customer_account: null,
    flow,
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
      flow_data: flowShape,
      ...unsupported('after_expiration', 'customer_account', 'locale', 'on_behalf_of'),
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
        newPortalSession(
          world,
          params.customer,
          configuration.id,
          returnUrl,
          flowOf(world, params.customer, params.flow_data),
        ),
      );
      emit(world, 'billing_portal.session.created', session);
      return session;
    },
  ),
];
