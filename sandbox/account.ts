import { noSuch } from './errors.ts';
import { type Route, route } from './routes.ts';

const accountId = 'acct_1SandboxSandbox';

const account = {
  id: accountId,
  object: 'account',
  charges_enabled: true,
  country: 'US',
  default_currency: 'usd',
  details_submitted: true,
  email: 'seller@example.com',
  metadata: {},
  payouts_enabled: true,
  type: 'standard',
};

export const accountRoutes: Route[] = [
  route('GET', '/v1/account', {}, () => account),
  route('GET', '/v1/accounts/:id', {}, (_world, _params, id) => {
    if (id !== accountId) throw noSuch('account', id, 'account', 404);
    return account;
  }),
];
