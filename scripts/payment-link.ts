import { Command } from 'commander';
import { ensurePaymentLink, ensurePrice, findPaymentLink, findPrice } from '../billing/stripe-catalogue.ts';
import { createStripe } from '../billing/stripe-client.ts';
import { loadConfig } from '../shared/config.ts';
import { planVariable } from '../shared/plan-variables.ts';
import type { Plan } from '../shared/plans.ts';
import { fail, run, stripeAccount } from './command.ts';

type Options = { plan: string; baseUrl?: string; allowHidden?: boolean; dryRun?: boolean; json?: boolean };

const command = new Command('payment-link')
  .description(
    'Find or create the Stripe product, price and payment link of a plan. Run it again whenever you like.',
  )
  .requiredOption('--plan <id>', 'the plan, as plans.yaml names it')
  .option('--base-url <url>', 'where buyers reach billing; PUBLIC_BILLING_URL when omitted')
  .option('--allow-hidden', 'make a link for a plan that the pricing page does not show')
  .option('--dry-run', 'say what would be done, and do nothing')
  .option('--json', 'print JSON')
  .action(paymentLink);

await run(command);

async function paymentLink(options: Options): Promise<void> {
  const config = loadConfig(process.env, 'tool');
  const plan = findPlan(config.plans.plans, options);
  const successUrl = `${baseUrl(options.baseUrl ?? config.publicBillingUrl)}/billing/success?session_id={CHECKOUT_SESSION_ID}`;
  const account = stripeAccount(config);
  if (account.mode === 'live' && !successUrl.startsWith('https:')) {
    fail(
      `A live payment link would send buyers to ${new URL(successUrl).origin}. Give the public https:// address with --base-url.`,
    );
  }
  const stripe = createStripe(account);
  const mapped = config.plans.priceForPlan(plan.id, account.mode);

  if (options.dryRun) {
    const price = mapped ?? (await findPrice(stripe, plan))?.id ?? null;
    const link = price ? await findPaymentLink(stripe, plan, price) : null;
    report(options, {
      dry_run: true,
      plan: plan.id,
      mode: account.mode,
      price: price ?? 'would be created',
      payment_link: link
        ? link.after_completion.redirect?.url === successUrl
          ? link.url
          : `${link.url} (would be updated)`
        : 'would be created',
      redirect: successUrl,
    });
    return;
  }
  const priceId = mapped ?? (await ensurePrice(stripe, plan)).object.id;
  const link = await ensurePaymentLink(stripe, plan, priceId, successUrl);
  report(options, {
    plan: plan.id,
    mode: account.mode,
    price: priceId,
    payment_link: link.object.url,
    payment_link_was: link.action,
    redirect: successUrl,
    environment: `PRICE_ID_${account.mode.toUpperCase()}_${planVariable(plan.id)}=${priceId}`,
    price_map: `STRIPE_PRICE_MAP=${priceId}:${plan.id}`,
  });
}

function findPlan(plans: readonly Plan[], options: Options): Plan {
  const plan = plans.find((each) => each.id === options.plan);
  if (!plan) fail(`There is no plan "${options.plan}". Plans: ${plans.map((each) => each.id).join(', ')}.`);
  if (plan.hidden && !options.allowHidden)
    fail(`The plan "${plan.id}" is hidden. Add --allow-hidden to sell it by link all the same.`);
  if (!plan.price)
    fail(
      `The plan "${plan.id}" has no price. Add one to plans.yaml, such as: price: { amount: 19, currency: usd, per: month }`,
    );
  return plan;
}

function baseUrl(text: string): string {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    fail(`--base-url is "${text}", not an http:// or https:// address.`);
  return text.replace(/\/+$/, '');
}

function report(options: Options, result: Record<string, string | boolean>): void {
  if (options.json) {
    console.log(JSON.stringify(result, null, 2));
    return;
  }
  console.log(
    `${result.dry_run ? 'Nothing was changed. ' : ''}Plan "${result.plan}" in ${result.mode} mode:\n`,
  );
  console.log(`  Price         ${result.price}`);
  console.log(
    `  Payment link  ${result.payment_link}${result.payment_link_was ? ` (${result.payment_link_was})` : ''}`,
  );
  console.log(`  Leads to      ${result.redirect}`);
  if (result.price_map) {
    console.log('\nPut one of these into the environment of billing and restart it:\n');
    console.log(`  ${result.environment}`);
    console.log(`  ${result.price_map}        (several: separate with a semicolon)`);
  }
}
