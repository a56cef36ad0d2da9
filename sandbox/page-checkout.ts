import { itemsOf } from './checkout-items.ts';
import { needsMethod, paySession } from './checkout-payment.ts';
import type { CheckoutSession } from './checkout-sessions.ts';
import { StripeError } from './errors.ts';
import { type Html, html } from './html.ts';
import { messagePage } from './page-home.ts';
import { date, every, layout, methodChoice, money } from './page-layout.ts';
import type { PageAnswer, PageRequest } from './pages.ts';
import { isEmail } from './params.ts';
import { typeOf } from './payment-methods.ts';
import { findTestMethod, testMethods } from './test-methods.ts';
import type { World } from './world.ts';

/** The hosted checkout: shows what is bought, takes an email and a test card, and sends the buyer back to the seller. */
export function checkoutPage({ world, name, form }: PageRequest): PageAnswer {
  const session = world.store.sessions.find(name);
  if (!session)
    return { status: 404, page: messagePage('Checkout not found', 'There is no such checkout session.') };
  if (session.status !== 'open') return over(world, session);
  return form ? submit(world, session, form) : show(world, session, 200, {});
}

function over(world: World, session: CheckoutSession): PageAnswer {
  if (session.status === 'expired') {
    const link = session.cancel_url ? { href: session.cancel_url, text: 'Back to the shop' } : undefined;
    return {
      status: 410,
      page: messagePage('This checkout has expired', 'Start again from the shop to get a new one.', link),
    };
  }
  const href = returnAddress(session);
  const custom = world.store.paymentLinks.find(session.payment_link)?.after_completion;
  const text =
    (custom && 'hosted_confirmation' in custom && custom.hosted_confirmation?.custom_message) || undefined;
  const waiting = session.payment_status === 'unpaid';
  return {
    status: 200,
    page: messagePage(
      waiting ? 'Thank you: your payment is on its way' : 'Thank you: this checkout is complete',
      text ?? (waiting ? 'Your bank takes a while to confirm it.' : 'You can close this page.'),
      href ? { href, text: 'Continue to the shop' } : undefined,
    ),
  };
}

function returnAddress(session: CheckoutSession): string | null {
  return session.success_url?.replaceAll('{CHECKOUT_SESSION_ID}', session.id) ?? null;
}

function submit(world: World, session: CheckoutSession, form: URLSearchParams): PageAnswer {
  const typed = (form.get('email') ?? '').trim();
  const card = form.get('card') ?? '';
  const email = knownEmail(session) ?? typed;
  if (!isEmail(email))
    return show(world, session, 400, {
      email: typed,
      card,
      problem: 'Enter an email address such as you@example.com.',
    });
  const needed = needsMethod(world, session);
  const kind = needed ? findTestMethod(card) : null;
  if (kind === undefined)
    return show(world, session, 400, { email: typed, card, problem: 'Choose how to pay.' });
  try {
    paySession(world, session, kind, email);
  } catch (error) {
    if (!(error instanceof StripeError)) throw error;
    return show(world, session, 402, { email: typed, card, problem: `${error.message} Try another card.` });
  }
  const back = returnAddress(session);
  return back ? { redirect: back } : over(world, session);
}

/** An email the buyer cannot change, because the seller or the customer gave it. */
function knownEmail(session: CheckoutSession): string | null {
  return session.customer_details?.email ?? session.customer_email;
}

function show(
  world: World,
  session: CheckoutSession,
  status: number,
  state: { email?: string; card?: string; problem?: string },
): PageAnswer {
  const targets = [
    session.success_url?.replaceAll('{CHECKOUT_SESSION_ID}', 'id') ?? '',
    session.cancel_url ?? '',
  ];
  return { status, page: page(world, session, state), formTargets: targets };
}

function page(
  world: World,
  session: CheckoutSession,
  state: { email?: string; card?: string; problem?: string },
): Html {
  const items = itemsOf(world, session.id);
  const total = session.amount_total ?? 0;
  const currency = session.currency;
  const recurring = items.find(({ price }) => price.recurring);
  const later = items.reduce(
    (sum, { price, quantity }) => sum + (price.recurring ? price.unit_amount * quantity : 0),
    0,
  );
  const trialEnd = world.terms.get(session.id)?.subscription.trialEnd ?? null;
  const known = knownEmail(session);
  const card = needsMethod(world, session);
  const choices = testMethods.filter((kind) => session.payment_method_types.includes(typeOf(kind, currency)));
  const verb =
    session.mode === 'subscription'
      ? trialEnd
        ? 'Start trial'
        : 'Subscribe'
      : total > 0
        ? 'Pay'
        : 'Complete order';
  return layout(
    'Checkout',
    html`<main class="checkout">
<section class="summary" aria-labelledby="summary-title">
<p class="eyebrow" id="summary-title">${session.mode === 'subscription' ? 'Subscribe' : 'Pay'}</p>
<p class="total"><span id="total">${money(total, currency)}</span>${recurring && !trialEnd ? html` <small>${later === total ? '' : `today, then ${money(later, currency)} `}${every(recurring.price.recurring)}</small>` : ''}</p>
${trialEnd ? html`<p class="note" id="trial">Free until ${date(trialEnd)}, then ${money(later, currency)} ${every(recurring?.price.recurring ?? null)}.</p>` : ''}
<ul class="lines" id="line-items">
${items.map(
  (
    item,
  ) => html`<li><span class="line-name">${item.description}<small>${item.quantity > 1 ? `${item.quantity} × ` : ''}${money(item.price.unit_amount, currency)} ${every(item.price.recurring)}</small></span><span class="line-amount">${money(item.amount_total, currency)}</span></li>
`,
)}</ul>
<p class="due"><span>Total due today</span><span id="due">${money(total, currency)}</span></p>
</section>
<section class="card pay">
<h1>${card ? 'Payment details' : 'Your details'}</h1>
${state.problem ? html`<p class="problem" id="payment-error" role="alert">${state.problem}</p>` : ''}
<form method="post" id="checkout-form" novalidate>
<div class="field"><label for="email">Email</label>
${
  known
    ? html`<input id="email" name="email" type="email" value="${known}" readonly>`
    : html`<input id="email" name="email" type="email" value="${state.email ?? ''}" autocomplete="email" placeholder="you@example.com" required>`
}</div>
${card ? methodChoice(choices, state.card || choices[0]?.name || '') : html`<p class="note" id="no-payment">Nothing is due, so no card is needed.</p>`}
<button class="button" id="pay" type="submit">${verb}${total > 0 && !trialEnd ? html` <span>${money(total, currency)}</span>` : ''}</button>
</form>
${session.cancel_url ? html`<p class="fine"><a id="cancel" href="${session.cancel_url}">Cancel and go back</a></p>` : ''}
</section>
</main>`,
  );
}
