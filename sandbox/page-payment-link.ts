import { messagePage } from './page-home.ts';
import type { PageAnswer, PageRequest } from './pages.ts';
import { linkClosed, openLink } from './payment-links.ts';

/** A payment link's address: opens a new checkout session and sends the buyer to it. */
export function linkPage({ world, url, name }: PageRequest): PageAnswer {
  const link = world.store.paymentLinks.all().find((one) => one.url.endsWith(`/b/${name}`));
  if (!link) return { status: 404, page: messagePage('Link not found', 'There is no such payment link.') };
  const closed = linkClosed(link);
  if (closed) return { status: 410, page: messagePage('Link closed', closed) };
  const session = openLink(world, link, {
    client_reference_id: url.searchParams.get('client_reference_id'),
    prefilled_email: url.searchParams.get('prefilled_email'),
  });
  return { redirect: session.url as string };
}
