import { setDefaultMethod } from './customers.ts';
import { StripeError } from './errors.ts';
import { emit } from './events.ts';
import { type Html, html } from './html.ts';
import { messagePage } from './page-home.ts';
import { date, every, layout, methodChoice, money } from './page-layout.ts';
import type { PageAnswer, PageRequest } from './pages.ts';
import { attach, createMethod, describeMethod } from './payment-methods.ts';
import type { PortalConfiguration } from './portal-configurations.ts';
import { findPortalSession, type PortalSession } from './portal-sessions.ts';
import type { Price } from './prices.ts';
import { cancelNow, hasEnded } from './subscription-end.ts';
import { methodFor } from './subscription-payment.ts';
import { update } from './subscription-update.ts';
import type { Subscription } from './subscriptions.ts';
import { findTestMethod, testMethods } from './test-methods.ts';
import type { World } from './world.ts';

/** The billing portal: a customer's subscriptions, card and invoices, with what the configuration lets them change. */
export function portalPage({ world, name, form }: PageRequest): PageAnswer {
  const session = findPortalSession(world, name);
  const configuration = world.store.portalConfigurations.find(session?.configuration);
  if (!session || !configuration || !world.store.customers.find(session.customer)) {
    return {
      status: 404,
      page: messagePage('This link has expired', 'Open the billing portal again from the shop.'),
    };
  }
  if (!form) return { status: 200, page: page(world, session, configuration, '') };
  try {
    act(world, session, configuration, form);
    return { redirect: `/p/session/${name}` };
  } catch (error) {
    if (!(error instanceof StripeError)) throw error;
    return { status: error.status, page: page(world, session, configuration, error.message) };
  }
}

function refuse(message: string): never {
  throw new StripeError(400, { type: 'invalid_request_error', message });
}

function act(
  world: World,
  session: PortalSession,
  { features }: PortalConfiguration,
  form: URLSearchParams,
): void {
  const action = form.get('action');
  if (action === 'update_card') {
    if (!features.payment_method_update.enabled) refuse('This portal does not change payment methods.');
    updateCard(world, session, form.get('card') ?? '');
    return;
  }
  const sub = world.store.subscriptions.find(form.get('subscription'));
  if (!sub || sub.customer !== session.customer || hasEnded(sub))
    refuse('There is no such subscription to change.');
  if (action === 'cancel') {
    const { enabled, mode } = features.subscription_cancel;
    if (!enabled) refuse('This portal does not cancel subscriptions.');
    if (mode === 'immediately') cancelNow(world, sub, { reason: 'cancellation_requested' });
    else update(world, sub, { cancel_at_period_end: true } as Parameters<typeof update>[2]);
  } else if (action === 'keep') {
    if (!sub.cancel_at_period_end) refuse('This subscription is not about to end.');
    update(world, sub, { cancel_at_period_end: false } as Parameters<typeof update>[2]);
  } else if (action === 'change_plan') {
    const price = choices(world, features).find(({ id }) => id === form.get('price'));
    if (!price) refuse('This plan is not on offer here.');
    const item = sub.items.data[0];
    const proration_behavior = features.subscription_update.proration_behavior;
    update(world, sub, { items: [{ id: item?.id, price: price.id }], proration_behavior } as Parameters<
      typeof update
    >[2]);
  } else refuse('Unknown action.');
}

function updateCard(world: World, session: PortalSession, card: string): void {
  const customer = world.store.customers.get(session.customer);
  const kind = findTestMethod(card) ?? refuse('Choose how to pay.');
  if (kind.declines) refuse('Your card was declined. Try another card.');
  const method = createMethod(world, kind, customer.currency ?? 'usd', customer.email);
  attach(world, method, customer);
  setDefaultMethod(world, customer, method.id);
  for (const sub of current(world, session)) {
    if (sub.default_payment_method === null) continue;
    const previous = { default_payment_method: sub.default_payment_method };
    sub.default_payment_method = method.id;
    emit(world, 'customer.subscription.updated', sub, previous);
  }
}

function current(world: World, session: PortalSession): Subscription[] {
  return world.store.subscriptions.all().filter((sub) => sub.customer === session.customer && !hasEnded(sub));
}

function choices(world: World, features: PortalConfiguration['features']): Price[] {
  const { enabled, default_allowed_updates: allowed } = features.subscription_update;
  if (!enabled || !allowed.includes('price')) return [];
  const products = 'products' in features.subscription_update ? features.subscription_update.products : [];
  return (products ?? []).flatMap(({ prices }) => prices.map((id) => world.store.prices.get(id)));
}

function nameOf(world: World, price: Price): string {
  return world.store.products.find(price.product)?.name ?? price.product;
}

function page(
  world: World,
  session: PortalSession,
  configuration: PortalConfiguration,
  problem: string,
): Html {
  const { features, business_profile: profile } = configuration;
  const customer = world.store.customers.get(session.customer);
  const subs = current(world, session);
  const invoices = world.store.invoices
    .all()
    .filter((one) => one.customer === session.customer && one.status !== 'draft');
  const method =
    (subs[0] && methodFor(world, subs[0])) ??
    world.store.paymentMethods.find(customer.invoice_settings.default_payment_method);
  return layout(
    'Billing',
    html`<main class="narrow portal">
${session.return_url ? html`<p><a id="return" href="${session.return_url}">← Back to the shop</a></p>` : ''}
<h1>${profile.headline ?? 'Your subscription and invoices'}</h1>
<p class="fine">${customer.email}</p>
${problem ? html`<p class="problem" id="portal-error" role="alert">${problem}</p>` : ''}
<h2>Subscriptions</h2>
${subs.length === 0 ? html`<p class="card" id="no-subscriptions">There is no subscription.</p>` : ''}
${subs.map((sub) => subscriptionCard(world, sub, features))}
${features.payment_method_update.enabled ? cardSection(method ? describeMethod(method) : 'None yet', session.flow?.type === 'payment_method_update') : ''}
${
  features.invoice_history.enabled
    ? html`<h2>Invoices</h2><section class="card"><ul class="lines" id="invoices">${invoices.map(
        (
          invoice,
        ) => html`<li><span class="line-name"><a href="${invoice.hosted_invoice_url}">${invoice.number}</a><small>${date(invoice.created)}</small></span><span class="status ${invoice.status}">${invoice.status}</span><span class="line-amount">${money(invoice.total, invoice.currency)}</span></li>
`,
      )}</ul></section>`
    : ''
}
</main>`,
  );
}

function subscriptionCard(world: World, sub: Subscription, features: PortalConfiguration['features']): Html {
  const item = sub.items.data[0];
  if (!item) return html``;
  const end = date(item.current_period_end);
  const others = choices(world, features).filter(({ id }) => id !== item.price.id);
  const { enabled, mode } = features.subscription_cancel;
  return html`<section class="card subscription" id="subscription-${sub.id}">
<p class="plan"><strong class="plan-name">${nameOf(world, item.price)}</strong> <span class="status ${sub.status}">${sub.status.replace('_', ' ')}</span></p>
<p class="total small">${money(item.price.unit_amount * item.quantity, sub.currency)} <small>${every(item.price.recurring)}</small></p>
<p class="note period">${sub.cancel_at_period_end ? `Ends on ${end}.` : sub.status === 'trialing' ? `Trial until ${end}.` : `Renews on ${end}.`}</p>
${
  others.length > 0
    ? html`<form method="post" class="row">${hidden('change_plan', sub.id)}
<label class="field grow" for="price-${sub.id}">Plan <select name="price" id="price-${sub.id}">${others.map((price) => html`<option value="${price.id}">${nameOf(world, price)} · ${money(price.unit_amount, price.currency)} ${every(price.recurring)}</option>`)}</select></label>
<button class="button quiet change-plan" type="submit">Change plan</button></form>`
    : ''
}
${
  sub.cancel_at_period_end
    ? html`<form method="post">${hidden('keep', sub.id)}<button class="button keep" type="submit">Keep the subscription</button></form>`
    : enabled
      ? html`<form method="post">${hidden('cancel', sub.id)}<button class="button danger cancel" type="submit">${mode === 'immediately' ? 'Cancel now' : 'Cancel at the end of the period'}</button></form>`
      : ''
}
</section>`;
}

function hidden(action: string, subscription: string): Html {
  return html`<input type="hidden" name="action" value="${action}"><input type="hidden" name="subscription" value="${subscription}">`;
}

function cardSection(method: string, open: boolean): Html {
  return html`<h2>Payment method</h2><section class="card"><p id="current-method">${method}</p>
<details${open ? html` open` : ''}><summary id="change-card">Change</summary><form method="post"><input type="hidden" name="action" value="update_card">
${methodChoice(testMethods, 'success')}<button class="button" id="update-card" type="submit">Use this from now on</button></form></details></section>`;
}
