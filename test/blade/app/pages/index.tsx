/* oxlint-disable */
// @ts-nocheck: it is checked in the folder that blade-app.ts makes of it, where Blade is installed.
import { use, useCountOf } from 'blade/server/hooks';
const Page = () => {
  const accounts = use.accounts();
  const posts = use.posts();
  return (
    <div>
      <h1>Blade lab</h1>
      <p id="c">
        {accounts.length} accounts, {posts.length} posts
      </p>
    </div>
  );
};
export default Page;
