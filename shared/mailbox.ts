/** Providers that read a local part without its dots, under the name that each is known by here. */
const WITHOUT_DOTS: Readonly<Record<string, string>> = {
  'gmail.com': 'gmail.com',
  'googlemail.com': 'gmail.com',
};

/** Whose mailbox an address leads to: letter case, what follows a plus, and dots at Gmail make no second one. */
export function mailbox(email: string): string {
  const at = email.lastIndexOf('@');
  const domain = email.slice(at + 1).toLowerCase();
  const [local = ''] = email.slice(0, at).toLowerCase().split('+', 1);
  const same = Object.hasOwn(WITHOUT_DOTS, domain) ? WITHOUT_DOTS[domain] : undefined;
  return same === undefined ? `${local}@${domain}` : `${local.replaceAll('.', '')}@${same}`;
}
