import { expect, it } from 'vitest';
import { nearestName, suggestion } from '../../src/support/nearest-name.ts';

it.each([
  ['stauts', ['state', 'status'], 'status'],
  ['item', ['pairs', 'items'], 'items'],
  ['acount', ['accounts', 'sessions'], 'accounts'],
  ['Email', ['email'], 'email'],
  ['nme', ['id', 'name'], 'name'],
  ['vlaue', ['id', 'value', 'valve'], 'value'],
])('%s of %j is %s', (typed, names, nearest) => expect(nearestName(typed, names)).toBe(nearest));

it.each([
  ['v', ['t', 'id']],
  ['id', ['in', 'n']],
  ['user', ['posts', 'uuid']],
  ['post', ['cost_center', 'pets']],
  ['orders', ['items', 'others_by_day']],
])('%s is none of %j', (typed, names) => expect(nearestName(typed, names)).toBeNull());

it('where none is near it lists what there is, but not all of a long list', () => {
  expect(suggestion('stauts', ['status'])).toBe('; did you mean `status`?');
  expect(suggestion('x', ['id', 'name'])).toBe(' (known: id, name)');
  expect(
    suggestion(
      'x',
      Array.from({ length: 50 }, (_, index) => `column${index}`),
    ),
  ).toMatch(/^ \(known: column0, .*, column19 and 30 more\)$/);
});
