import { MANAGE_PATH } from '../manage.ts';
import { lookAtPortal, repairPortal } from '../stripe-portal.ts';
import { type Check, ok, type PreflightContext, repairCommand, stop, warning } from './check.ts';

export const portal: Check = {
  id: 'portal',
  title: 'Buyers can cancel, see invoices and change their card',
  offline: false,
  async run(context) {
    const look = await lookAtPortal(context.stripe);
    if (look === null) {
      return warning(
        'The customer portal is set up when the first buyer goes there.',
        `${repairCommand(context)} does it now, and shows whether Stripe lets it.`,
      );
    }
    const off = [
      ...(look.cancel ? [] : ['cancellation']),
      ...(look.invoices ? [] : ['invoices']),
      ...(look.paymentMethods ? [] : ['payment methods']),
    ];
    if (off.length === 0) return ok('The customer portal has cancellation, invoices and payment methods.');
    return stop(
      `Switched off in the customer portal: ${off.join(', ')}.`,
      `${repairCommand(context)} switches it on.`,
    );
  },
  async repair({ stripe, config, mode }: PreflightContext) {
    const { publicBillingUrl, productName, plans } = config;
    await repairPortal(stripe, { plans, mode, productName, manageUrl: `${publicBillingUrl}${MANAGE_PATH}` });
    return 'The customer portal is set up as it should be.';
  },
};
