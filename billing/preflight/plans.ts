import { type Check, ok, stop } from './check.ts';

export const plans: Check = {
  id: 'plans',
  title: 'Every plan on sale has a price',
  offline: true,
  run({ config, mode }) {
    // That every mapped price stands for a plan is asked of the configuration as a whole.
    const onSale = config.plans.plans.filter((plan) => !plan.hidden);
    const without = onSale.filter((plan) => config.plans.priceForPlan(plan.id, mode) === undefined);
    if (onSale.length === 0)
      return stop('No plan is on sale.', 'Add a plan to the plan file, or take `hidden` from one.');
    if (without.length === 0) return ok(`${onSale.map(({ id }) => id).join(', ')}: each has a price.`);
    const ids = without.map(({ id }) => id).join(', ');
    return stop(
      `Without a price in ${mode} mode: ${ids}.`,
      `npm run payment-link -- --plan ${without[0]?.id}, and map the price that it prints; or set \`hidden: true\`.`,
    );
  },
};
