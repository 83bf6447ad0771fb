// The screen of all runs: counters, tabs, search, a line for each run, and the button that stops all.

import { act, ask, readOnly, sayAnswer } from './act.js';
import { el, fragment, table } from './dom.js';
import { count, percent, plural, time } from './format.js';
import { bar, etaText, isActive, pager, query, rateText, reason, searchBox, statusChip, tabs, withQuery } from './parts.js';

const TABS = ['all', 'active', 'failed', 'mine'];

export function title(data)
{
	return `${count(data.counters.active)} active`;
}

function counter(name, n, kind)
{
	return el('div', { class: n > 0 ? kind : null }, el('dt', null, name), el('dd', { class: 'now' }, count(n)));
}

function stopAll(active)
{
	return ask({
		title: 'Stop all runs?',
		body: `Every active run that is yours to stop (${count(active)} here) stops after the batches it has in hand. Each can be resumed where it was.`,
		confirm: 'Stop all', danger: true,
		run: async () => sayAnswer(await act('stop_all', {}), 'All runs are asked to stop.'),
	});
}

// What the last column says: what failed it, what it waits for, what slows it down.
function held(run, now)
{
	if (run.status === 'failed' && run.error)
		return el('span', { class: 'why bad-text' }, run.error);
	if (!isActive(run) && !run.wait_reason)
		return run.errors > 0 ? el('span', { class: 'why warn-text' }, plural(run.errors, 'row') + ' skipped') : '';
	const text = run.wait_reason || run.throttled_by;
	return text ? el('span', { class: 'why warn-text' }, reason(text))
		: run.status === 'pending' && run.start_at ? el('span', { class: 'quiet' }, 'starts at ', time(run.start_at, now)) : '';
}

export function view(data, context)
{
	const { active, held: heldRuns, failed, completed } = data.counters;
	const tab = query(context.path, 'tab') || 'all';
	const now = data.now;

	return fragment(
		el('div', { class: 'head' },
			el('h1', null, 'Runs'),
			active > 0 && !readOnly()
				? el('button', { class: 'danger quiet-danger', onclick: () => stopAll(active) }, 'Stop all…') : null),
		el('dl', { class: 'counters' },
			counter('active', active, 'is-good'), counter('held', heldRuns, 'is-warn'),
			counter('failed, 7 days', failed, 'is-bad'), counter('completed, 7 days', completed, 'is-done')),
		el('div', { class: 'bar-line' },
			tabs('Which runs', TABS.map(name => [name, withQuery(context.path, { tab: name === 'all' ? null : name, before: null }), name === tab])),
			searchBox(context, 'Search runs')),
		table({
			caption: 'Runs, the newest first',
			rows: data.runs, key: run => 'run-' + run.id,
			empty: query(context.path, 'q') ? 'No run has that in its name or its table.'
				: tab === 'all' ? 'There is no run yet. Define one in psql, then start it under Definitions.' : 'No run is such.',
			columns: [
				{ label: 'Run', head: true, cell: run => el('span', null,
					el('a', { class: 'row-link', href: '/runs/' + run.id }, el('span', { class: 'id' }, '#' + run.id), ' ', run.name),
					el('span', { class: 'sub' }, run.target || '')) },
				{ label: 'Status', cell: run => statusChip(run.status) },
				{ label: 'Progress', class: 'progress-cell', cell: run => [bar(run), el('span', { class: 'now' }, percent(run.progress))] },
				{ label: 'Rows/s', num: true, cell: run => el('span', { class: isActive(run) ? 'now' : 'quiet' }, rateText(run)) },
				{ label: 'ETA', num: true, cell: run => el('span', { class: 'now' }, etaText(run, now)) },
				{ label: 'Held or slowed by', wide: true, cell: run => held(run, now) },
				{ label: 'By', phone: false, cell: run => run.started_by || '' },
				{ label: 'Started', num: true, phone: false, cell: run => time(run.started_at || run.created_at, now) },
			],
		}),
		pager(context, data.more, data.runs.length > 0 ? data.runs[data.runs.length - 1].id : null));
}
