import type { KeyFacts } from '../keystore/keystore.ts';
import { type Access, accessOf } from '../shared/access.ts';
import type { Plan } from '../shared/plans.ts';
import type { ProblemCode } from '../shared/problems.ts';
import { dayText, timeText } from './pages.ts';

/** How a key stands, in words its buyer understands. */
export type Standing = {
  state: Access['state'];
  tone: 'good' | 'warning' | 'bad';
  /** A word or two. */
  label: string;
  /** What that means, and what to do. */
  text: string;
  /** Whether to go on means to buy anew. */
  buyAgain: boolean;
};

const REFUSED: Partial<Record<ProblemCode, string>> = {
  payment_past_due:
    'A payment is overdue. Access returns as soon as it succeeds: check the card in the Stripe portal.',
  payment_required:
    'A payment of your subscription is still open. Access starts as soon as it succeeds: complete it in the Stripe portal.',
  payment_disputed:
    'A payment is in dispute at your bank. Access returns when the dispute is withdrawn or closed.',
  suspended_by_seller:
    'We have suspended this key. Write to us: the same key works again as soon as the suspension is lifted.',
  subscription_paused: 'Your subscription is paused. Access returns when it is resumed.',
};

/** How a key stands at `now`. */
export function standingOf(facts: KeyFacts, plan: Plan | undefined, now: number): Standing {
  const access = accessOf(facts, facts.subscription, plan ?? {}, now);
  if (access.state === 'active')
    return { state: 'active', buyAgain: false, ...inUse(facts, plan, access.until) };
  if (access.state === 'suspended') {
    const text = REFUSED[access.code] ?? 'Access is suspended. Look into the Stripe portal, or write to us.';
    return { state: access.state, tone: 'bad', label: 'Suspended', text, buyAgain: false };
  }
  if (access.code === 'subscription_ended') {
    const text = 'Your subscription has ended. To go on, subscribe again: you get a new key.';
    return { state: access.state, tone: 'bad', label: 'Ended', text, buyAgain: true };
  }
  const on = facts.expiresAt === null ? '' : ` on ${timeText(facts.expiresAt)}`;
  return {
    state: access.state,
    tone: 'bad',
    label: 'Expired',
    text: `This key's time ended${on}. To go on, buy again: you get a new key.`,
    buyAgain: true,
  };
}

function inUse(
  facts: KeyFacts,
  plan: Plan | undefined,
  until: number | null,
): Pick<Standing, 'tone' | 'label' | 'text'> & { buyAgain?: true } {
  const { subscription } = facts;
  if (plan && plan.quotaPer === 'purchase' && plan.quota !== null && (facts.usedInAll ?? 0) >= plan.quota) {
    const text = 'All requests of this purchase are used. Buy again to go on.';
    return { tone: 'bad', label: 'Used up', text, buyAgain: true };
  }
  if (!subscription) {
    const text =
      facts.expiresAt === null || facts.replacedBy !== null
        ? 'Bought once: there is nothing to renew.'
        : `Bought once: it works until ${timeText(facts.expiresAt)}.`;
    return { tone: 'good', label: 'Active', text };
  }
  const { status, cancelAt, trialEnd, currentPeriodEnd } = subscription;
  if (status === 'past_due') {
    const text =
      until === null
        ? 'The last payment failed. Check the card in the Stripe portal.'
        : `The last payment failed. Access ends on ${timeText(until)} unless it is paid by then: check the card in the Stripe portal.`;
    return { tone: 'warning', label: 'Payment failed', text };
  }
  if (cancelAt !== null) {
    const renewsBefore = currentPeriodEnd !== null && cancelAt > currentPeriodEnd;
    const text = `It was canceled: access lasts until ${timeText(cancelAt)}${renewsBefore ? ', with renewals until then' : ', and nothing more is charged'}. You can still take that back in the Stripe portal.`;
    return { tone: 'warning', label: `Ends on ${dayText(cancelAt)}`, text };
  }
  if (status === 'trialing') {
    const text =
      trialEnd === null
        ? 'You are trying it for free.'
        : `Free until ${timeText(trialEnd)}; the first payment is due then.`;
    return { tone: 'good', label: 'Trial', text };
  }
  if (status === 'paused') {
    const text = 'Your subscription is paused. Your key works all the same.';
    return { tone: 'warning', label: 'Paused', text };
  }
  if (status !== 'active') {
    return {
      tone: 'warning',
      label: 'Payment open',
      text: 'A payment is open: look into the Stripe portal.',
    };
  }
  const text = currentPeriodEnd === null ? '' : `Renews on ${timeText(currentPeriodEnd)}.`;
  return { tone: 'good', label: 'Active', text };
}
