// The screen of all definitions, and of the schedules.

import { act, ask, readOnly, sayAnswer } from './act.js';
import { el, fragment, table } from './dom.js';
import { plural, time } from './format.js';
import { query, searchBox } from './parts.js';

export function title(data)
{
	return plural(data.definitions.length, 'definition');
}

function unschedule({ definition, target })
{
	const name = definition + (target ? ' on ' + target : '');

	return ask({
		title: `Unschedule ${name}?`, body: 'No run of it is started by the clock any more. Runs that are active go on.', confirm: 'Unschedule', danger: true,
		run: async () =>
		{
			const answer = await act('unschedule', { name: definition, target });

			sayAnswer(answer, answer.result ? `${name} is not scheduled any more.` : `You have no schedule of ${name}.`);
		},
	});
}

// A role can take back its own schedules, whoever's it sees.
function schedules(data)
{
	const rows = data.schedules || [];
	const mine = s => s.role === document.body.dataset.role;

	if (rows.length === 0)
		return null;
	return el('section', { 'data-key': 'schedules', 'aria-labelledby': 'h-schedules' },
		el('h2', { id: 'h-schedules' }, 'Schedules'),
		table({
			caption: 'Schedules', rows, key: s => 'schedule-' + s.job,
			columns: [
				{ label: 'Definition', head: true, cell: s => [el('a', { href: '/definitions/' + encodeURIComponent(s.definition) }, s.definition), s.target ? ' on ' + s.target : ''] },
				{ label: 'When', cell: s => el('span', { class: 'mono' }, s.cron) },
				{ label: 'What', wide: true, cell: s => el('span', { class: 'mono quiet' }, s.command || '') },
				{ label: 'As', cell: s => s.role },
				{ label: 'Active', cell: s => s.active ? 'yes' : 'no' },
				...readOnly() ? [] : [{ label: 'Change', cell: s => mine(s)
					? el('button', { class: 'small', 'aria-label': 'Unschedule ' + s.definition, onclick: () => unschedule(s) }, 'Unschedule…')
					: el('span', { class: 'quiet' }, 'not yours') }],
			],
		}));
}

export function view(data, context)
{
	return fragment(
		el('div', { class: 'head' }, el('h1', null, 'Definitions')),
		el('div', { class: 'bar-line' }, el('p', { class: 'quiet' }, 'They are made in psql, with backfill_define.'), searchBox(context, 'Search definitions')),
		table({
			caption: 'Definitions', rows: data.definitions, key: d => 'definition-' + d.name,
			empty: query(context.path, 'q') ? 'No definition has that in it.' : 'There is none that you may see. Define one in psql: SELECT backfill_define(...).',
			columns: [
				{ label: 'Definition', head: true, cell: d => el('a', { class: 'row-link', href: '/definitions/' + encodeURIComponent(d.name) }, d.name) },
				{ label: 'Table', cell: d => d.generic ? el('span', { class: 'quiet' }, 'given at the start') : d.target },
				{ label: 'What', wide: true, cell: d => d.description || (d.statement ? el('code', { class: 'quiet clip' }, d.statement) : '') },
				{ label: 'Parameters', cell: d => el('span', { class: 'quiet' }, Object.keys(d.parameters || {}).join(', ')) },
				{ label: 'Owner', cell: d => d.owner },
				{ label: 'Changed', num: true, phone: false, cell: d => time(d.updated_at, data.now) },
			],
		}),
		schedules(data));
}
