// What runs, waits and has ended, over whatever page is shown.
import { ended, jobsError, running, waiting } from "../jobs";
import { Dialog } from "./dialog";
import { JobList } from "./job_list";
import { Failed } from "./problems";

export function Queue({ onClose }: { onClose: () => void }) {
  const parts = [
    ["Running", running.value],
    ["Waiting", waiting.value],
    ["Ended", ended.value.slice(0, 50)],
  ] as const;
  const none = parts.every(([, jobs]) => !jobs.length);
  return (
    <Dialog title="Queue" kind="drawer" onClose={onClose}>
      {jobsError.value !== undefined && <Failed error={jobsError.value} />}
      {none && (
        <p class="empty">
          Nothing runs or waits. What you start here comes one after another on each device, and goes on when the studio
          is closed.
        </p>
      )}
      {parts.map(
        ([title, jobs]) =>
          jobs.length > 0 && (
            <section key={title}>
              <h3>{title}</h3>
              <JobList jobs={jobs} label={title} />
            </section>
          ),
      )}
    </Dialog>
  );
}
