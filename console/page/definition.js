// The screen of one definition: what it does, what it would do (explain, preview), and the form that starts it.
//
// The form is made once (data-keep): what is typed stays while the data around it come anew.

import { act, ask, errorBox, post, readOnly, sayAnswer } from './act.js';
import { el, facts, fragment, table } from './dom.js';
import { percent, rate, time, value, ZONE } from './format.js';
import { parameterFields } from './parameters.js';
import { bar, isActive, statusChip } from './parts.js';
import { chooser } from './settings.js';

export function title(data)
{
	return data.definition.name;
}

// A time that was chosen in the viewer's zone, with the zone.
function chosenTime(text)
{
	return text === '' ? null : new Date(text).toISOString();
}

// Say what will be started, then start it.
function start(definition, given)
{
	return ask({
		title: `Start ${definition.name}?`,
		body: el('div', null,
			el('p', { class: 'says' }, given.paused ? 'A new run is made and waits: Resume begins it.'
				: given.start_at ? ['A new run is made and begins at ', time(given.start_at), '.'] : 'A new run is made and begins at once.'),
			facts([
				['Table', given.target || definition.target],
				['Parameters', Object.keys(given.parameters).length > 0 ? JSON.stringify(given.parameters) : null],
				['Settings', Object.keys(given.settings).length > 0 ? JSON.stringify(given.settings) : null],
				['Because', given.note],
			], { class: 'facts mono' })),
		confirm: 'Start',
		run: async () =>
		{
			const answer = await act('start', {
				name: definition.name, parameters: JSON.stringify(given.parameters), settings: JSON.stringify(given.settings),
				start_at: given.start_at, note: given.note, target: given.target, paused: given.paused ? '1' : null,
			});

			location.assign('/runs/' + answer.result);
		},
	});
}

function schedule(definition, given)
{
	return ask({
		title: `Schedule ${definition.name}`,
		body: el('div', { class: 'form' },
			el('div', { class: 'field' }, el('label', { for: 'cron' }, 'When, as cron writes it'),
				el('input', { id: 'cron', name: 'cron', required: true, value: '0 3 * * *', class: 'mono', autofocus: true, 'aria-describedby': 'cron-help' }),
				el('p', { class: 'help', id: 'cron-help' }, 'Minute, hour, day of the month, month, day of the week, in the time zone of pg_cron.')),
			el('p', { class: 'says' }, 'At each of these times a run is started with the parameters and settings of the form, unless the one before is still active.')),
		confirm: 'Schedule',
		run: async form => sayAnswer(await act('schedule', {
			name: definition.name, cron: form.get('cron'), parameters: JSON.stringify(given.parameters), settings: JSON.stringify(given.settings), target: given.target,
		}), `${definition.name} is scheduled.`),
	});
}

// The rows of a preview: what was and what will be, column by column; what changes is marked, and said.
function previewRows(rows)
{
	if (rows.length === 0)
		return el('p', { class: 'empty' }, 'No row is in scope: there is nothing to change.');
	return rows.map((row, i) =>
	{
		const before = row.before || {};
		const after = row.after;
		const changed = new Set(Array.isArray(row.changed) ? row.changed : Object.keys(row.changed || {}));
		const key = Array.isArray(row.key) ? row.key.join(', ') : value(row.key);

		return el('details', { open: i < 3, class: 'preview' },
			el('summary', null, el('b', null, 'Row ' + key), ': ', row.action || (after === null ? 'delete' : changed.size > 0 ? 'update' : 'unchanged'),
				changed.size > 0 ? ` (${[...changed].join(', ')})` : ''),
			table({
				caption: `Row ${key} before and after`, rows: Object.keys(before), key: name => name,
				rowClass: name => changed.has(name) ? 'changed' : null,
				columns: [
					{ label: 'Column', head: true, cell: name => el('span', { class: 'mono' }, name) },
					{ label: 'Before', cell: name => el('span', { class: 'mono value' }, value(before[name])) },
					{ label: 'After', cell: name => after === null ? el('span', { class: 'quiet' }, 'deleted')
						: changed.has(name) ? el('mark', { class: 'mono value' }, value(after[name]), el('span', { class: 'hidden' }, ' (changed)'))
							: el('span', { class: 'mono value quiet' }, value(after[name])) },
				],
			}));
	});
}

function form(data)
{
	const { definition } = data;
	const parameters = parameterFields(data.parameters || []);
	const settings = chooser(data.settings || [], data.presets || []);
	const out = el('div', { id: 'outcome', 'aria-live': 'polite' });
	const at = el('input', { type: 'datetime-local', id: 'start-at', step: '1', 'aria-describedby': 'start-at-help' });
	const note = el('input', { id: 'note', maxlength: '500', 'aria-describedby': 'note-help', autocomplete: 'off' });
	const paused = el('input', { type: 'checkbox', id: 'paused' });
	const target = definition.generic ? el('input', { id: 'target', required: true, autocomplete: 'off' }) : null;
	const measure = el('input', { type: 'checkbox', id: 'measure' });

	const given = () => ({
		parameters: parameters.collect(), settings: settings.collect(), start_at: chosenTime(at.value), note: note.value.trim(),
		paused: paused.checked, target: target ? target.value.trim() : null,
	});
	// Do what a button says with what the form says; what goes wrong is shown below it.
	const attempt = async (button, what) =>
	{
		if (!element.reportValidity())
			return;
		out.replaceChildren();
		button.disabled = true;
		button.setAttribute('aria-busy', 'true');
		try
		{
			await what(given());
		}
		catch (error)
		{
			out.replaceChildren(errorBox(error));
		}
		button.disabled = false;
		button.removeAttribute('aria-busy');
	};
	const explain = async g =>
	{
		const query = new URLSearchParams({ parameters: JSON.stringify(g.parameters), measure: String(measure.checked) });

		if (g.target)
			query.set('target', g.target);
		const response = await fetch(`/api/definitions/${encodeURIComponent(definition.name)}/explain?${query}`, { cache: 'no-store' });
		const answer = await response.json();
		if (!response.ok)
			throw Object.assign(new Error(), answer.error);
		out.replaceChildren(el('h3', null, 'Explain'), el('pre', { tabindex: '0', role: 'group', 'aria-label': 'Explain' }, answer.lines.join('\n')));
	};
	const preview = async g =>
	{
		const answer = await post('/api/preview', { name: definition.name, parameters: JSON.stringify(g.parameters), rows: 5, target: g.target });

		out.replaceChildren(el('h3', null, 'Preview: rolled back, nothing is changed'), ...[previewRows(answer.rows)].flat(),
			...(answer.notice || []).map(n => el('p', { class: 'quiet' }, typeof n === 'string' ? n : n.message)));
	};
	const may = !readOnly() && Object.keys(data.may || {}).length > 0;
	const element = el('form', {
		class: 'form start', 'aria-label': 'Start ' + definition.name,
		onsubmit: event =>
		{
			event.preventDefault();
			if (may)
				attempt(event.submitter, g => start(definition, g));
		},
	},
	target ? el('div', { class: 'field' }, el('label', { for: 'target' }, 'Table', el('span', { class: 'required' }, ' required')), target) : null,
	parameters.element,
	may ? settings.element : null,
	may ? el('fieldset', null, el('legend', null, 'When, and why'),
		el('div', { class: 'field' }, el('label', { for: 'start-at' }, 'Start at'), at,
			el('p', { class: 'help', id: 'start-at-help' }, `In your zone, ${ZONE}. Empty: at once.`)),
		el('div', { class: 'check' }, paused, el('label', { for: 'paused' }, 'Start paused: it begins when somebody resumes it')),
		el('div', { class: 'field' }, el('label', { for: 'note' }, 'Why'), note,
			el('p', { class: 'help', id: 'note-help' }, 'A note for those who look at the run later: a ticket, a reason.'))) : null,
	el('div', { class: 'row' },
		may ? el('button', { type: 'submit', class: 'primary', 'data-action': 'start' }, 'Start…') : null,
		may ? el('button', { type: 'button', 'data-action': 'preview', onclick: event => attempt(event.currentTarget, preview) }, 'Preview') : null,
		el('button', { type: 'button', 'data-action': 'explain', onclick: event => attempt(event.currentTarget, explain) }, 'Explain'),
		may ? el('span', { class: 'check' }, measure, el('label', { for: 'measure' }, 'measure: run some batches, and roll them back')) : null,
		may ? el('button', { type: 'button', class: 'link', 'data-action': 'schedule', onclick: event => attempt(event.currentTarget, g => schedule(definition, g)) }, 'Schedule…') : null),
	out);

	return element;
}

export function view(data, context)
{
	const { definition } = data;
	const texts = [['Statement', definition.statement], ['Scope', definition.scope], ['Prepare', definition.prepare], ['Finish', definition.finish]]
		.filter(([, text]) => text);
	const place = 'start-' + definition.name + '-' + definition.updated_at;

	return fragment(
		el('div', { class: 'head' }, el('h1', null, definition.name)),
		definition.description ? el('p', { class: 'under' }, definition.description) : null,
		facts([
			['Table', definition.generic ? 'given at the start' : definition.target], ['Owner', definition.owner], ['Key', definition.key],
			['Settings', Object.keys(definition.settings || {}).length > 0 ? el('span', { class: 'mono' }, JSON.stringify(definition.settings)) : null],
			['Changed', time(definition.updated_at, data.now)],
		]),
		definition.statement ? null : el('p', { class: 'quiet' }, 'It has no statement: clients do the work.'),
		texts.map(([name, text]) => [el('h2', { class: 'text-name' }, name), el('pre', { tabindex: '0', role: 'group', 'aria-label': name }, text)]),
		el('section', { 'data-key': 'start', 'aria-labelledby': 'h-start' },
			el('h2', { id: 'h-start' }, readOnly() || !(data.may || {}).start ? 'Look before' : 'Start a run'),
			el('div', { 'data-keep': place, 'data-form': '' })),
		el('section', { 'data-key': 'runs', 'aria-labelledby': 'h-runs' },
			el('h2', { id: 'h-runs' }, 'Its last runs'),
			table({
				caption: 'Its last runs', rows: data.runs || [], key: run => 'run-' + run.id, empty: 'It has not been started yet.',
				columns: [
					{ label: 'Run', head: true, cell: run => el('a', { class: 'row-link', href: '/runs/' + run.id }, '#' + run.id) },
					{ label: 'Status', cell: run => statusChip(run.status) },
					{ label: 'Progress', class: 'progress-cell', cell: run => [bar(run), el('span', { class: 'now' }, percent(run.progress))] },
					{ label: 'Rows/s', num: true, cell: run => el('span', { class: isActive(run) ? 'now' : null }, rate(run.rows_per_second)) },
					{ label: 'Parameters', wide: true, cell: run => el('span', { class: 'mono quiet' }, Object.keys(run.parameters || {}).length > 0 ? JSON.stringify(run.parameters) : '') },
					{ label: 'By', cell: run => run.started_by || '' },
					{ label: 'Started', num: true, cell: run => time(run.started_at || run.created_at, data.now) },
					{ label: 'Ended', num: true, cell: run => time(run.finished_at, data.now) },
				],
			})));
}

// Put the form into its place, once.
export function after(data, root)
{
	const place = root.querySelector('[data-form]');

	if (place && place.childElementCount === 0)
		place.append(form(data));
}
